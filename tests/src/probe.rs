//! The test's own account of what the engine writes: triggers that log each change and each checkpoint with the
//! transaction that made it. It shares nothing with the engine's account.

use reseal_sandbox::table::Table;
use reseal_sandbox::values::COLUMNS;
use tokio_postgres::Client;

/// What the log says about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Values that the engine changed.
    pub rewritten: i64,
    /// Values that the engine changed although it had written them itself.
    pub rewritten_twice: i64,
    /// Transactions of the engine that changed rows without a checkpoint.
    pub rows_without_checkpoint: i64,
    /// Values rewritten, by the engine's own checkpoints.
    pub checkpointed: i64,
}

impl Account {
    /// Reads the log in one snapshot.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub async fn read(client: &Client) -> Self {
        let row = client
            .query_one(
                "SELECT (SELECT count(*) FROM probe),
                        (SELECT count(*) FROM probe a JOIN probe b ON b.before = a.after AND b.col = a.col),
                        (SELECT count(*) FROM (SELECT DISTINCT txid FROM probe) p
                          WHERE NOT EXISTS (SELECT FROM checkpoint c WHERE c.txid = p.txid)),
                        (SELECT coalesce(sum(s.tallies[place]), 0)::int8 FROM reseal.span s,
                                generate_series(3, cardinality(s.tallies), 6) AS place)",
                &[],
            )
            .await
            .expect("the log can be read");
        Self {
            rewritten: row.get(0),
            rewritten_twice: row.get(1),
            rows_without_checkpoint: row.get(2),
            checkpointed: row.get(3),
        }
    }

    /// Checks what must hold at every instant.
    ///
    /// # Panics
    ///
    /// If rows were committed apart from their checkpoint, or a value was rewritten twice.
    #[track_caller]
    pub fn check(&self) {
        assert_eq!(self.rows_without_checkpoint, 0, "rows and checkpoint were committed apart: {self:?}");
        assert_eq!(self.rewritten, self.checkpointed, "the engine's account is not what it wrote: {self:?}");
        assert_eq!(self.rewritten_twice, 0, "values were rewritten twice: {self:?}");
    }
}

/// Installs the triggers on the runbook's table and on the engine's spans, which it makes for that.
///
/// As on any table with triggers, the engine reads every written row again; where there are none, it reads some.
///
/// # Panics
///
/// If the server refuses.
pub async fn install(client: &Client) {
    client.batch_execute(reseal_engine::postgres::DDL).await.expect("the engine's own statements work");
    let changes: Vec<String> =
        COLUMNS.iter().map(|name| format!("('{name}', OLD.{name}::text, NEW.{name}::text)")).collect();
    let statements = format!(
        "CREATE TABLE probe (txid xid8, id int8, col text, before text, after text);
         CREATE TABLE checkpoint (txid xid8);
         CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF pg_catalog.current_setting('application_name') LIKE 'reseal/%' THEN
                 INSERT INTO public.probe
                 SELECT pg_catalog.pg_current_xact_id(), OLD.id, col, pg_catalog.md5(before), pg_catalog.md5(after)
                   FROM (VALUES {}) AS changes (col, before, after) WHERE before IS DISTINCT FROM after;
             END IF;
             RETURN NEW; END $$;
         CREATE FUNCTION note_checkpoint() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.checkpoint VALUES (pg_catalog.pg_current_xact_id());
             RETURN NULL; END $$;
         CREATE TRIGGER probe BEFORE UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION note_row();
         CREATE TRIGGER checkpoint AFTER UPDATE OF seq ON reseal.span FOR EACH ROW
             WHEN (NEW.seq <> OLD.seq) EXECUTE FUNCTION note_checkpoint()",
        changes.join(", "),
        Table::NAME,
    );
    client.batch_execute(&statements).await.expect("the triggers can be made");
}
