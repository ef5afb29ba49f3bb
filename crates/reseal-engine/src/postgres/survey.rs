//! What the catalogs say about a table, and a sample of its rows.

use super::copy::Collector;
use super::position::block_start;
use super::session::PostgresSession;
use crate::batch::{Batch, Position};
use crate::error::EngineError;
use crate::ledger::ScanRange;
use crate::store::{Filter, ReadLimits};
use crate::survey::TableFacts;

/// Places from which a sample is taken, and rows at each.
const SAMPLE_PLACES: u64 = 16;
const SAMPLE_ROWS: usize = 16;
/// Bytes of the whole sample; once they are taken, the other places are left out.
const SAMPLE_BYTES: usize = 16 << 20;

impl PostgresSession {
    pub(super) async fn survey_table(&mut self) -> Result<(TableFacts, Batch), EngineError> {
        let mut facts = TableFacts {
            widths: vec![None; self.job.plan.columns.len()],
            longest: vec![0; self.job.plan.columns.len()],
            ..TableFacts::default()
        };
        self.in_read_transaction(async |session| session.judge(&mut facts).await).await?;
        let mut sample = self.empty_batch();
        // What is refused is not read: it may not even be readable.
        if !facts.refusals.is_empty() {
            return Ok((facts, sample));
        }
        for (leaf, rows) in self.sample().await? {
            self.judge_checks(&leaf, &rows, &mut facts).await?;
            sample.append(rows);
        }
        Ok((facts, sample))
    }

    async fn judge(&mut self, facts: &mut TableFacts) -> Result<(), EngineError> {
        self.judge_server(facts).await?;
        if !self.judge_leaves(facts).await? {
            return Ok(());
        }
        self.judge_key(facts).await?;
        self.judge_dependents(facts).await?;
        self.judge_company(facts).await?;
        if facts.refusals.is_empty() {
            self.judge_reading(facts).await?;
            self.judge_columns(facts).await?;
            self.judge_fences(facts).await?;
            self.judge_schema(facts).await?;
        }
        Ok(())
    }

    /// Rows from places spread evenly over all leaves, leaf by leaf.
    async fn sample(&mut self) -> Result<Vec<(String, Batch)>, EngineError> {
        let leaves = self.in_read_transaction(async |session| session.load_leaves().await).await?;
        let blocks: u64 = leaves.iter().map(|leaf| leaf.blocks).sum();
        let mut samples = Vec::new();
        let mut left = SAMPLE_BYTES;
        for leaf in leaves.iter().filter(|leaf| leaf.blocks > 0) {
            let places = (SAMPLE_PLACES * leaf.blocks).div_ceil(blocks).min(leaf.blocks);
            let mut sample = self.empty_batch();
            for place in 0..places {
                let range = ScanRange {
                    relation: leaf.name.clone(),
                    incarnation: leaf.filenode,
                    lo: block_start(leaf.blocks * place / places),
                    hi: block_start(leaf.blocks * (place + 1) / places),
                };
                if left == 0 {
                    break;
                }
                let limits = ReadLimits { rows: SAMPLE_ROWS, bytes: left.min(SAMPLE_BYTES / 4) };
                let rows = self.read_rows(&range, &range.lo, limits, Filter::All).await?;
                left = left.saturating_sub(rows.bytes_len());
                sample.append(rows);
            }
            samples.push((leaf.name.clone(), sample));
        }
        Ok(samples)
    }

    fn empty_batch(&self) -> Batch {
        Collector::new(&self.job, 0, 0).finish(Position::default())
    }
}
