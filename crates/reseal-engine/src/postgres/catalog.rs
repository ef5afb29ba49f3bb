//! What the catalogs say for or against a run.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::describe::{column_type, key_columns, key_type};
use super::leaf::with_tree;
use super::session::PostgresSession;
use super::sql::{column_expression, not_new_column, reduce};
use crate::error::EngineError;
use crate::finding::{Refusal, Warning};
use crate::plan::KeyType;
use crate::survey::TableFacts;

const LOOKING: &str = "look at the table";
/// The oldest server whose tables can be read by block range.
const OLDEST_VERSION: i32 = 140_000;

impl PostgresSession {
    /// The server itself: its age, and whether it can be written.
    pub(super) async fn judge_server(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        let row = self
            .client
            .query_typed_one(
                "SELECT current_setting('server_version'), current_setting('server_version_num')::int4,
                        pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool,
                        format('%I', current_user), format('%I', current_database())",
                &[],
            )
            .await
            .map_err(|error| reduce(LOOKING, error))?;
        let version: String = row.get(0);
        facts.server = format!("Postgres {version}");
        if row.get::<_, i32>(1) < OLDEST_VERSION {
            facts.refusals.push(Refusal::ServerTooOld(version));
        }
        if row.get(2) {
            facts.refusals.push(Refusal::Recovery);
        } else if row.get(3) {
            facts.refusals.push(Refusal::ReadOnly { role: row.get(4), database: row.get(5) });
        }
        Ok(())
    }

    /// The leaf tables; `false` if there is no table at all.
    pub(super) async fn judge_leaves(&self, facts: &mut TableFacts) -> Result<bool, EngineError> {
        let found = self.rows(LEAF_FACTS, &[(&self.table(), Type::TEXT)]).await?;
        if found.is_empty() {
            facts.refusals.push(Refusal::NoTable(self.job.plan.table.to_string()));
            return Ok(false);
        }
        for row in &found {
            judge_leaf(row, facts);
        }
        Ok(true)
    }

    /// The columns of the plan: types, widths, what is computed from them.
    pub(super) async fn judge_columns(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        for (index, column) in self.job.plan.columns.iter().enumerate() {
            let found =
                self.rows(COLUMN_FACTS, &[(&self.table(), Type::TEXT), (&column.name, Type::TEXT)]).await?;
            let Some(row) = found.first() else {
                facts.refusals.push(Refusal::NoColumn(column.name.clone()));
                continue;
            };
            let type_name: String = row.get(0);
            if column_type(&type_name) != Some(column.column_type) {
                let found = type_name.clone();
                facts.refusals.push(Refusal::ColumnType { column: column.name.clone(), found });
                continue;
            }
            if row.get(1) {
                facts.refusals.push(Refusal::Generated(column.name.clone()));
            }
            if row.get(2) {
                facts.warnings.push(Warning::Derived(column.name.clone()));
            }
            if let Some(width) = row.get::<_, Option<i32>>(3).and_then(|width| u64::try_from(width).ok()) {
                facts.widths[index] = Some(width);
                facts.longest[index] = self.longest(index).await?;
            }
        }
        Ok(())
    }

    /// The key of the plan against the keys of the table.
    pub(super) async fn judge_key(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        let plan = &self.job.plan;
        let usable = !plan.key.is_empty() && plan.key.iter().all(|key| key.kind != KeyType::Other);
        if plan.row_bound() && !usable {
            facts.refusals.push(Refusal::RowBindingWithoutKey);
        }
        if plan.key.is_empty() {
            let written: Vec<&str> = self.job.column_names().collect();
            if key_columns(&self.client, &self.table(), &written).await?.is_empty() {
                facts.warnings.push(Warning::NoKey(plan.table.to_string()));
            }
            return Ok(());
        }
        let names: Vec<&str> = plan.key.iter().map(|key| key.name.as_str()).collect();
        let found = self.rows(KEY_FACTS, &[(&self.table(), Type::TEXT), (&names, Type::TEXT_ARRAY)]).await?;
        for key in &plan.key {
            let Some(row) = found.iter().find(|row| row.get::<_, &str>(0) == key.name) else {
                facts.refusals.push(Refusal::Key(format!("there is no column `{}`", key.name)));
                continue;
            };
            if key_type(row.get(1)) != key.kind {
                let why = format!("column `{}` has type {}", key.name, row.get::<_, &str>(1));
                facts.refusals.push(Refusal::Key(why));
            }
            if !row.get::<_, bool>(2) {
                facts.refusals.push(Refusal::Key(format!("column `{}` may be NULL", key.name)));
            }
        }
        if !found.first().is_some_and(|row| row.get(3)) {
            facts.refusals.push(Refusal::Key("no unique index covers exactly its columns".into()));
        }
        Ok(())
    }

    /// Triggers, rules, indexes, constraints: what else happens when a row is rewritten.
    pub(super) async fn judge_dependents(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        let columns: Vec<&str> = self.job.column_names().collect();
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&self.table(), Type::TEXT), (&columns, Type::TEXT_ARRAY)];
        for row in self.rows(TRIGGERS, &parameters[..1]).await? {
            let kind = row.get::<_, String>(2);
            facts.warnings.push(Warning::Trigger { relation: row.get(0), name: row.get(1), kind });
        }
        for row in self.rows(RULES, &parameters[..1]).await? {
            facts.refusals.push(Refusal::Rule { relation: row.get(0), rule: row.get(1) });
        }
        for row in self.rows(INDEXES, &parameters).await? {
            facts.warnings.push(Warning::Index { index: row.get(0), column: row.get(1), unique: row.get(2) });
        }
        for row in self.rows(FOREIGN_KEYS, &parameters).await? {
            judge_foreign_key(&row, facts);
        }
        Ok(())
    }

    /// Who else is at work: transactions that hold back the proof.
    pub(super) async fn judge_company(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        for row in self.rows(LONG_TRANSACTIONS, &[]).await? {
            facts.warnings.push(Warning::LongTransaction(row.get(0)));
        }
        for row in self.rows("SELECT gid::text FROM pg_prepared_xacts ORDER BY prepared", &[]).await? {
            facts.warnings.push(Warning::PreparedTransaction(row.get(0)));
        }
        Ok(())
    }

    /// Whether block ranges are read as such: a role or a database may have switched them off.
    pub(super) async fn judge_reading(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        for leaf in facts.leaves.clone() {
            let explain = format!(
                "EXPLAIN SELECT ctid FROM ONLY {leaf} WHERE ctid >= '(0,0)'::tid AND ctid < '(1,0)'::tid"
            );
            let rows = self.rows(&explain, &[]).await?;
            if !rows.iter().any(|row| row.get::<_, &str>(0).contains("Tid Range Scan")) {
                facts.refusals.push(Refusal::NoBlockRange(leaf));
            }
        }
        Ok(())
    }

    /// Characters of the longest value of a limited column that is still to be rewritten.
    async fn longest(&self, index: usize) -> Result<u64, EngineError> {
        let column = &self.job.plan.columns[index];
        let statement = format!(
            "SELECT coalesce(max(length({})), 0)::int8 FROM {} AS t WHERE {}",
            column_expression(&column.name, column.column_type),
            self.table(),
            not_new_column(&self.job, index).as_deref().unwrap_or("true"),
        );
        let rows = self.rows(&statement, &[]).await?;
        Ok(rows.first().and_then(|row| u64::try_from(row.get::<_, i64>(0)).ok()).unwrap_or(0))
    }

    pub(super) async fn rows(
        &self,
        statement: &str,
        parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, EngineError> {
        Ok(self.client.query_typed(statement, parameters).await.map_err(|error| reduce(LOOKING, error))?)
    }
}

fn judge_leaf(row: &Row, facts: &mut TableFacts) {
    let name: String = row.get(0);
    let refuse = |facts: &mut TableFacts, refusal| facts.refusals.push(refusal);
    match (row.get::<_, &str>(1), row.get::<_, &str>(2)) {
        // A partitioned table holds no rows itself.
        ("p", _) => return,
        ("r", "heap") => facts.leaves.push(name.clone()),
        ("r", other) => {
            let found = format!("stored by access method {other}");
            return refuse(facts, Refusal::Kind { relation: name, found });
        }
        ("f", _) => return refuse(facts, Refusal::Kind { relation: name, found: "a foreign table".into() }),
        ("v", _) => return refuse(facts, Refusal::Kind { relation: name, found: "a view".into() }),
        ("m", _) => {
            return refuse(facts, Refusal::Kind { relation: name, found: "a materialized view".into() });
        }
        _ => return refuse(facts, Refusal::Kind { relation: name, found: "not a table".into() }),
    }
    let count = |index: usize| u64::try_from(row.get::<_, i64>(index)).unwrap_or(0);
    facts.rows += count(3);
    facts.bytes += count(4);
    if row.get(5) {
        refuse(facts, Refusal::RowSecurity(name.clone()));
    }
    for (index, privilege) in [(6, "SELECT"), (7, "UPDATE")] {
        if !row.get::<_, bool>(index) {
            let role = row.get(13);
            refuse(facts, Refusal::Privilege { relation: name.clone(), privilege, role });
        }
    }
    match (row.get::<_, bool>(8), row.get::<_, bool>(9)) {
        (true, false) => refuse(facts, Refusal::ReplicaIdentity(name.clone())),
        (true, true) => facts.warnings.push(Warning::Published(name.clone())),
        (false, _) => {}
    }
    if row.get(10) {
        facts.warnings.push(Warning::Superuser { relation: name.clone(), owner: row.get(11) });
    }
    if row.get(12) {
        facts
            .warnings
            .push(Warning::Other(format!("{name} is not logged: a crash of the server empties it")));
    }
}

/// Equal values under a new key are equal no more. Only a column that is referred to may change, where the others follow;
/// rows of the table itself may not, between their being read and written.
fn judge_foreign_key(row: &Row, facts: &mut TableFacts) {
    let (constraint, column, other) = (row.get(0), row.get(1), row.get(2));
    let (is_within, is_computed): (bool, bool) = (row.get(5), row.get(6));
    match (row.get(3), row.get(4), is_within) {
        (true, true, false) => facts.warnings.push(Warning::Cascade { constraint, column, other }),
        (is_referenced, cascades, _) => facts.refusals.push(Refusal::ForeignKey {
            constraint,
            column,
            other,
            is_referenced,
            cascades,
            can_follow: !is_within && (is_referenced || !is_computed),
        }),
    }
}

const LEAF_FACTS: &str = with_tree!(
    "SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text, coalesce(m.amname::text, ''),
           greatest(c.reltuples, 0)::int8, CASE WHEN c.relkind = 'r' THEN pg_table_size(c.oid) ELSE 0 END,
           row_security_active(c.oid),
           has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'UPDATE'),
           EXISTS (SELECT FROM pg_publication_tables p JOIN pg_publication b ON b.pubname = p.pubname
                    WHERE p.schemaname = n.nspname AND p.tablename = c.relname AND b.pubupdate),
           c.relreplident IN ('f', 'i') OR (c.relreplident = 'd' AND EXISTS
               (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary)),
           current_setting('is_superuser')::bool AND c.relowner <> current_user::regrole::oid,
           pg_get_userbyid(c.relowner)::text, c.relpersistence = 'u', format('%I', current_user)
      FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_am m ON m.oid = c.relam ORDER BY 1"
);

const COLUMN_FACTS: &str = "
    SELECT format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL), a.attgenerated <> '',
           t.typtype = 'd' OR EXISTS (SELECT FROM pg_attrdef d JOIN pg_attribute g
                ON g.attrelid = d.adrelid AND g.attnum = d.adnum AND g.attgenerated <> ''
               WHERE d.adrelid = a.attrelid AND EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_attrdef'::regclass
                 AND e.objid = d.oid AND e.refobjid = a.attrelid AND e.refobjsubid = a.attnum)),
           CASE WHEN format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) = 'character varying'
                THEN nullif(greatest(CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, -1), -1) - 4 END
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";

const KEY_FACTS: &str = "
    SELECT a.attname::text, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL), a.attnotnull,
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid
               AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = cardinality($2::text[])
               AND NOT EXISTS (SELECT FROM pg_attribute k WHERE k.attrelid = a.attrelid
                   AND k.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) AND k.attname <> ALL ($2::text[])))
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = to_regclass($1) AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped";

/// `tgtype` bits: 1 row, 2 before, 16 update, 64 instead.
const TRIGGERS: &str = with_tree!(
    "SELECT g.tgrelid::regclass::text, g.tgname::text,
           CASE WHEN g.tgconstraint <> 0 THEN 'CONSTRAINT' WHEN g.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END
           || CASE WHEN g.tgtype & 1 <> 0 THEN ' ROW' ELSE ' STATEMENT' END
           || CASE WHEN g.tginitdeferred THEN ' DEFERRED' ELSE '' END
      FROM pg_trigger g JOIN tree ON tree.oid = g.tgrelid JOIN pg_class c ON c.oid = g.tgrelid
     WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 16 <> 0 AND c.relkind = 'r' ORDER BY 1, 2"
);

/// `ev_type` 2 is UPDATE.
const RULES: &str = with_tree!(
    "SELECT r.ev_class::regclass::text, r.rulename::text FROM pg_rewrite r JOIN tree ON tree.oid = r.ev_class
     WHERE r.ev_type = '2' AND r.ev_enabled <> 'D' ORDER BY 1, 2"
);

const INDEXES: &str = with_tree!(
    "SELECT DISTINCT x.indexrelid::regclass::text, a.attname::text, x.indisunique
      FROM pg_index x JOIN tree ON tree.oid = x.indrelid JOIN pg_attribute a ON a.attrelid = x.indrelid
     WHERE a.attname = ANY ($2::text[]) AND (a.attnum = ANY (x.indkey) OR EXISTS (SELECT FROM pg_depend d
           WHERE d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid AND d.refobjid = x.indrelid
             AND d.refobjsubid = a.attnum)) ORDER BY 1, 2"
);

/// Foreign keys over columns of the run and what is computed from them, from both ends. Partitions have a copy each.
const FOREIGN_KEYS: &str = with_tree!(
    "SELECT DISTINCT ON (f.conname, a.attname, side.is_referenced)
           f.conname::text, a.attname::text, side.other::regclass::text, side.is_referenced, f.confupdtype = 'c',
           side.other IN (SELECT oid FROM tree), a.attgenerated <> ''
      FROM pg_constraint f
     CROSS JOIN LATERAL (VALUES (false, f.conrelid, f.conkey, f.confrelid), (true, f.confrelid, f.confkey, f.conrelid))
           AS side (is_referenced, own, attnums, other)
      JOIN tree ON tree.oid = side.own
      JOIN pg_attribute a ON a.attrelid = side.own AND a.attnum = ANY (side.attnums)
     WHERE f.contype = 'f' AND (a.attname = ANY ($2::text[]) OR EXISTS
               (SELECT FROM pg_attrdef d JOIN pg_depend e ON e.classid = 'pg_attrdef'::regclass AND e.objid = d.oid
                  JOIN pg_attribute o ON o.attrelid = e.refobjid AND o.attnum = e.refobjsubid
                 WHERE a.attgenerated <> '' AND d.adrelid = a.attrelid AND d.adnum = a.attnum
                   AND e.refobjid = a.attrelid AND o.attname = ANY ($2::text[])))
     ORDER BY f.conname, a.attname, side.is_referenced, f.conparentid"
);

const LONG_TRANSACTIONS: &str = "
    SELECT format('session %s (user %s, application %s, %s) since %s', pid, coalesce(usename, '?'),
                  coalesce(nullif(application_name, ''), '?'), coalesce(state, '?'), to_char(xact_start, 'HH24:MI:SS'))
      FROM pg_stat_activity
     WHERE xact_start < clock_timestamp() - interval '1 minute' AND backend_type = 'client backend'
       AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 5";
