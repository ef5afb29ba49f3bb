//! What the catalogs say about a table, and a sample of its rows.

use super::copy::{Collector, block_start};
use super::session::PostgresSession;
use crate::batch::{Batch, Position};
use crate::error::EngineError;
use crate::ledger::ScanRange;
use crate::store::{Filter, ReadLimits};
use crate::survey::TableFacts;

/// Places from which a sample is taken, and rows at each.
const SAMPLE_PLACES: u64 = 16;
const SAMPLE_ROWS: usize = 16;

impl PostgresSession {
    pub(super) async fn survey_table(&mut self) -> Result<(TableFacts, Batch), EngineError> {
        let leaves = self.load_leaves().await?;
        let facts = TableFacts {
            leaves: leaves.iter().map(|leaf| leaf.name.clone()).collect(),
            widths: vec![None; self.job.plan.columns.len()],
            longest: vec![0; self.job.plan.columns.len()],
            ..TableFacts::default()
        };
        let sample = self.sample().await?;
        Ok((facts, sample))
    }

    /// Rows from places spread evenly over all leaves.
    async fn sample(&mut self) -> Result<Batch, EngineError> {
        let leaves = self.load_leaves().await?;
        let blocks: u64 = leaves.iter().map(|leaf| leaf.blocks).sum();
        let mut sample = Collector::new(&self.job, 0, 0).finish(Position::default());
        let limits = ReadLimits { rows: SAMPLE_ROWS, bytes: 4 << 20 };
        for leaf in leaves.iter().filter(|leaf| leaf.blocks > 0) {
            let places = (SAMPLE_PLACES * leaf.blocks).div_ceil(blocks);
            for place in 0..places.min(leaf.blocks) {
                let start = leaf.blocks * place / places.min(leaf.blocks);
                let range = ScanRange {
                    relation: leaf.name.clone(),
                    incarnation: leaf.filenode,
                    lo: block_start(start),
                    hi: block_start(leaf.blocks),
                };
                let rows = self.read_rows(&range, &range.lo, limits, Filter::All).await?;
                sample.append(rows);
            }
        }
        Ok(sample)
    }
}
