//! What stands before a run: the table, what the keys of the plan open in it, and what a run would cost.

use std::sync::Arc;

use crate::batch::Batch;
use crate::classify::Look;
use crate::error::EngineError;
use crate::finding::{Refusal, Warning};
use crate::plan::Job;
use crate::transform::{Census, census_on_pool};
use crate::verified::Reason;

/// What a store knows about a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// The server, for people.
    pub server: String,
    /// Rows by estimate.
    pub rows: u64,
    /// Bytes on disk with large values, without indexes.
    pub bytes: u64,
    /// The tables that hold rows: the table itself or its partitions.
    pub leaves: Vec<String>,
    /// Reasons not to start.
    pub refusals: Vec<Refusal>,
    /// Things to know.
    pub warnings: Vec<Warning>,
    /// Per column of the plan, the most characters it takes; `None` where there is no limit.
    pub widths: Vec<Option<u64>>,
    /// Per column of the plan, the bytes of its longest value.
    pub longest: Vec<u64>,
}

/// A survey of the target of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// What the store knows, with every refusal and warning.
    pub facts: TableFacts,
    /// What the sampled values are.
    pub census: Census,
}

impl Survey {
    /// Opens the sample and judges it.
    pub(crate) async fn new(
        job: &Arc<Job>,
        mut facts: TableFacts,
        sample: Batch,
    ) -> Result<Self, EngineError> {
        judge_formats(job, &mut facts);
        judge_widths(job, &mut facts);
        let census = census_on_pool(job.clone(), sample, Look::OldFirst).await?;
        for (plan, column) in job.plan.columns.iter().zip(&census.columns) {
            let name = &plan.name;
            let opened = column.old + column.new;
            let sampled = opened + column.unopened();
            if column.left.of(Reason::EncodingNotNamed) > 0 {
                facts.refusals.push(Refusal::Encoding { column: name.into() });
            } else if sampled > 0 && opened * 2 < sampled {
                let secret = plan.from.key.secret.clone();
                facts.refusals.push(Refusal::WrongKey { column: name.into(), secret, sampled, opened });
            } else if column.unopened() > 0 {
                facts.warnings.push(Warning::Unopened { column: name.into(), count: column.unopened() });
            }
        }
        Ok(Self { facts, census })
    }

    /// The reasons not to start.
    pub fn refusals(&self) -> &[Refusal] {
        &self.facts.refusals
    }
}

impl TableFacts {
    /// Refuses a column that takes fewer characters than a value needs; of several values the longest counts.
    pub(crate) fn judge_width(&mut self, column: &str, limit: u64, needed: u64) {
        let known = self.refusals.iter_mut().find_map(|refusal| match refusal {
            Refusal::TooNarrow { column: other, needed, .. } if other == column => Some(needed),
            _ => None,
        });
        match known {
            Some(known) => *known = needed.max(*known),
            None if needed > limit => {
                self.refusals.push(Refusal::TooNarrow { column: column.into(), limit, needed });
            }
            None => {}
        }
    }
}

/// Both sides must notice a wrong key: only then is the order in which keys are tried free.
fn judge_formats(job: &Job, facts: &mut TableFacts) {
    for codecs in &job.codecs {
        let (from, to) = (codecs.from.format(), codecs.to.format());
        if !to.authenticated() {
            facts.refusals.push(Refusal::TargetNotAuthenticated(to.name().into()));
        }
        if !from.authenticated() {
            facts.refusals.push(Refusal::SourceNotAuthenticated(from.name().into()));
        }
    }
}

/// Limited columns must take the longest value in its new form.
fn judge_widths(job: &Job, facts: &mut TableFacts) {
    for (index, column) in job.plan.columns.iter().enumerate() {
        let (Some(limit), longest) = (facts.widths[index], facts.longest[index]) else { continue };
        let longest = usize::try_from(longest).unwrap_or(usize::MAX);
        match column.from.spec.grown_len(&column.to.spec, column.column_type, longest) {
            Ok(needed) => facts.judge_width(&column.name, limit, needed as u64),
            Err(error) => {
                facts.refusals.push(Refusal::Format { column: column.name.clone(), why: error.to_string() });
            }
        }
    }
}
