//! The floor: what Postgres takes to write every row again, with no cryptography and no proof.

use futures_util::future::try_join_all;
use reseal_sandbox::postgres::Server;

use super::data::TABLE;
use crate::BoxError;

/// Blocks of one transaction where the table is worked on in pieces; 8 KiB each.
const BLOCKS_PER_PIECE: i64 = 1024;

/// A way to write every row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    connections: i64,
    /// Whether each connection works in pieces, each a transaction, or in one statement.
    pieces: bool,
}

impl Variant {
    pub(super) const ALL: [Self; 6] = [
        Self { connections: 1, pieces: false },
        Self { connections: 2, pieces: false },
        Self { connections: 4, pieces: false },
        Self { connections: 1, pieces: true },
        Self { connections: 2, pieces: true },
        Self { connections: 4, pieces: true },
    ];

    pub(super) fn name(self) -> String {
        let how = if self.pieces { "block ranges" } else { "one statement" };
        format!("{how} x{}", self.connections)
    }

    /// Writes every row of the table, and checks that it did.
    pub(super) async fn run(self, server: &Server, rows: i64) -> Result<(), BoxError> {
        let client = server.connect().await?;
        let size =
            format!("SELECT (pg_relation_size('{TABLE}') / current_setting('block_size')::int)::bigint");
        let blocks: i64 = client.query_one(&size, &[]).await?.get(0);
        let share = (blocks + self.connections - 1) / self.connections;
        let shares = (0..self.connections).map(|index| {
            let (lo, hi) = (index * share, ((index + 1) * share).min(blocks));
            self.share(server, lo, hi)
        });
        let written: u64 = try_join_all(shares).await?.into_iter().sum();
        // The last block has room: a few rows that one connection puts there are met again by another.
        if written < rows as u64 {
            return Err(format!("the floor wrote {written} of {rows} rows").into());
        }
        Ok(())
    }

    /// Writes the rows of the blocks `lo..hi`; nearly all of them move to blocks that are above every range.
    async fn share(self, server: &Server, lo: i64, hi: i64) -> Result<u64, BoxError> {
        let client = server.connect().await?;
        if self.connections == 1 && !self.pieces {
            return Ok(client.execute(&format!("UPDATE {TABLE} SET a = a, b = b, c = c"), &[]).await?);
        }
        let step = if self.pieces { BLOCKS_PER_PIECE } else { hi - lo };
        let (mut at, mut written) = (lo, 0);
        while at < hi {
            let to = (at + step).min(hi);
            let piece = format!(
                "UPDATE {TABLE} SET a = a, b = b, c = c
                  WHERE ctid >= '({at},0)'::tid AND ctid < '({to},0)'::tid"
            );
            written += client.execute(&piece, &[]).await?;
            at = to;
        }
        Ok(written)
    }
}
