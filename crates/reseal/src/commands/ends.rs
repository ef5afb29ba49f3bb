//! How each of several things that a command does ended: one that fails does not take the results of the others along.

use serde_json::{Map, Value, json};

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// What is gathered over one command.
#[derive(Debug)]
pub(crate) struct Ends {
    ui: Ui,
    list: &'static str,
    objects: Vec<Value>,
    exit: Exit,
}

impl Ends {
    /// Nothing yet; under `--json` the results stand in a list of this name.
    pub(crate) fn new(ui: Ui, list: &'static str) -> Self {
        Self { ui, list, objects: Vec::new(), exit: Exit::Done }
    }

    /// One ended: people are told at once, programs in the object at the end.
    pub(crate) fn told(&mut self, exit: Exit, object: Value, words: impl FnOnce() -> String) {
        self.worsen(exit);
        self.objects.push(object);
        if !self.ui.is_json()
            && let Err(failure) = self.ui.result(Value::Null, words)
        {
            self.told_only(&failure);
        }
    }

    /// One failed: told at once, and in the object too.
    pub(crate) fn failed(&mut self, name: &str, failure: &Failure) {
        self.told_only(failure);
        self.objects.push(json!({ "name": name, "error": failure.object() }));
    }

    /// Something failed that belongs to none of them.
    pub(crate) fn told_only(&mut self, failure: &Failure) {
        self.worsen(failure.exit());
        failure.report(self.ui.is_json());
    }

    /// Something else ended with this.
    pub(crate) fn worsen(&mut self, exit: Exit) {
        self.exit = self.exit.worst(exit);
    }

    /// The worst so far.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the object and gives the exit code of all.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub(crate) fn end(self) -> Outcome {
        if self.ui.is_json() {
            let object = Map::from_iter([(self.list.to_owned(), Value::Array(self.objects))]);
            self.ui.result(Value::Object(object), String::new)?;
        }
        Ok(self.exit)
    }
}
