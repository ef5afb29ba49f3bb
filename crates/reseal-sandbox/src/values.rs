//! Plaintexts that look like a client list and follow from a seed alone, so that nobody has to remember them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The encrypted columns of the table, in order: email address, telephone number, full name.
pub const COLUMNS: [&str; 3] = ["email_encrypted", "phone_number_encrypted", "full_name_encrypted"];

const FIRST: [&str; 24] = [
    "Amelia",
    "Bogdan",
    "Chiara",
    "Dawit",
    "Élodie",
    "Farid",
    "Grzegorz",
    "Hanna",
    "Ines",
    "José",
    "Kwame",
    "Linh",
    "Mariam",
    "Nils",
    "Oksana",
    "Priya",
    "Quentin",
    "Renée",
    "Søren",
    "Tomasz",
    "Umut",
    "Valentina",
    "Wei",
    "Zoë",
];
const LAST: [&str; 24] = [
    "Abara",
    "Bergström",
    "Castillo",
    "Dimitrov",
    "Eriksen",
    "Fontaine",
    "García",
    "Hoffmann",
    "Ivanova",
    "Jensen",
    "Kowalczyk",
    "Lindqvist",
    "Müller",
    "Nakamura",
    "Okonkwo",
    "Petrenko",
    "Quispe",
    "Rossi",
    "Schneider",
    "Tanaka",
    "Ulrich",
    "Vasquez",
    "Wójcik",
    "Yılmaz",
];

/// A place of a value: the row and the column, as an index into [`COLUMNS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Primary key of the row.
    pub id: i64,
    /// Index into [`COLUMNS`].
    pub column: usize,
}

/// All plaintexts that there can be, by cell and version, for one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values {
    seed: u64,
}

impl Values {
    /// The plaintexts of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The plaintext of a cell when it was written the `version`th time; 0 is what was loaded. 10 to 50 bytes of UTF-8.
    pub fn plaintext(&self, cell: Cell, version: u64) -> String {
        let mut random = self.stream(cell, version);
        let mut pick = |below: usize| (random.next_u32() as usize) % below;
        match cell.column {
            0 => {
                let (first, last) = (ascii(FIRST[pick(FIRST.len())]), ascii(LAST[pick(LAST.len())]));
                format!("{first}.{last}.{}@example.com", pick(1_000_000))
            }
            1 => format!("+{} {:03} {:06}", 1 + pick(98), pick(1000), pick(1_000_000)),
            _ => {
                let (first, last) = (FIRST[pick(FIRST.len())], LAST[pick(LAST.len())]);
                format!("{first} {}. {last} {}", char::from(b'A' + pick(26) as u8), pick(10_000))
            }
        }
    }

    /// The plaintexts of a row in one version, in the order of [`COLUMNS`].
    pub fn row(&self, id: i64, version: u64) -> [String; 3] {
        [0, 1, 2].map(|column| self.plaintext(Cell { id, column }, version))
    }

    fn stream(&self, cell: Cell, version: u64) -> ChaCha8Rng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&cell.id.to_le_bytes());
        seed[16..24].copy_from_slice(&version.to_le_bytes());
        seed[24..].copy_from_slice(&(cell.column as u64).to_le_bytes());
        ChaCha8Rng::from_seed(seed)
    }
}

fn ascii(name: &str) -> String {
    name.chars().filter(char::is_ascii).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_cell_and_version_give_the_same_value() {
        let cell = Cell { id: 7, column: 0 };
        assert_eq!(Values::new(1).plaintext(cell, 3), Values::new(1).plaintext(cell, 3));
    }

    #[test]
    fn seed_row_column_and_version_all_matter() {
        let base = Values::new(1).plaintext(Cell { id: 7, column: 1 }, 3);
        assert_ne!(base, Values::new(2).plaintext(Cell { id: 7, column: 1 }, 3));
        assert_ne!(base, Values::new(1).plaintext(Cell { id: 8, column: 1 }, 3));
        assert_ne!(base, Values::new(1).plaintext(Cell { id: 7, column: 2 }, 3));
        assert_ne!(base, Values::new(1).plaintext(Cell { id: 7, column: 1 }, 4));
    }

    #[test]
    fn lengths_are_those_of_real_values() {
        for id in 0..1000 {
            for value in Values::new(5).row(id, 0) {
                assert!((10..=50).contains(&value.len()), "{value}");
            }
        }
    }
}
