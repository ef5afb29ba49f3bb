//! SHA-1 of 16 iterated S2K inputs side by side, one per vector lane.
//!
//! The input of each value repeats `salt || passphrase`, which is equally long for all of them, so its 64-byte blocks
//! repeat after `period / gcd(period, 64)` blocks: the message schedule of SHA-1 is worked out once for each of these
//! and used for the thousands of blocks that follow. What remains is rounds, written so that the compiler turns the
//! loop over lanes into vector instructions (AVX-512, AVX2, or what the machine has), without `unsafe`.
//!
//! Measured with a 43-character passphrase on one core with AVX-512: 8 to 12 GB/s, where one value after the other
//! with SHA instructions gives 1.9 GB/s.

use multiversion::multiversion;
use reseal_crypto::SecretBytes;
use zeroize::Zeroizing;

use super::algorithm::Digest;
use super::s2k::{Key, S2k, SALT_LEN};

/// Values that are hashed side by side.
pub(super) const LANES: usize = 16;
/// With fewer values than this, one after the other is as fast.
pub(super) const WORTHWHILE: usize = 6;
/// With fewer octets than this, working out the schedules costs more than it saves.
const OCTETS_MIN: usize = 8192;
/// The longest repeated input. Longer ones would need a table of schedules that no cache holds.
const PERIOD_MAX: usize = 128;

const BLOCK: usize = 64;
const DIGEST: usize = 20;
const INITIAL: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
/// The constant of each 20 rounds, FIPS 180-4 section 4.2.1.
const CONSTANTS: [u32; 4] = [0x5A82_7999, 0x6ED9_EBA1, 0x8F1B_BCDC, 0xCA62_C1D6];

type Lane = [u32; LANES];
/// The five words of the hash of every lane.
type State = [Lane; 5];
/// The 80 words of one block of every lane, round constants added.
type Schedule = [Lane; 80];

/// Whether values with this S2K are worth the lanes.
pub(super) fn suits(s2k: &S2k, passphrase_len: usize) -> bool {
    s2k.mode.count() >= OCTETS_MIN && s2k.digest == Digest::Sha1 && SALT_LEN + passphrase_len <= PERIOD_MAX
}

/// Room for the schedules of one repetition, kept from one group of values to the next and wiped at the end.
#[derive(Default)]
pub(super) struct Workspace(Zeroizing<Vec<Schedule>>);

/// Derives the keys of at most 16 values that [`suits`] approves of; lanes left over repeat the first value.
pub(super) fn derive(
    passphrase: &SecretBytes,
    specs: &[&S2k],
    key_len: usize,
    workspace: &mut Workspace,
) -> Vec<Key> {
    let specs: [&S2k; LANES] = std::array::from_fn(|lane| *specs.get(lane).unwrap_or(&specs[0]));
    let period = SALT_LEN + passphrase.len();
    let repeats = (period + BLOCK).div_ceil(period);
    let runs = specs.map(|s2k| Zeroizing::new(s2k.pattern(passphrase).repeat(repeats)));
    let mut keys: [Key; LANES] = Default::default();
    for zeros in 0..key_len.div_ceil(DIGEST) {
        let lengths = specs.map(|s2k| zeros + s2k.mode.count().max(period));
        let hashes = Input { runs: &runs, period, zeros, lengths }.hash(workspace);
        let place = zeros * DIGEST..key_len.min((zeros + 1) * DIGEST);
        keys.iter_mut().zip(hashes.iter()).for_each(|(key, hash)| {
            key[place.clone()].copy_from_slice(&hash[..place.len()]);
        });
    }
    keys.to_vec()
}

/// What is hashed: in each lane some zero octets and then the lane's pattern, over and over, `lengths` octets in all.
struct Input<'a> {
    /// The pattern of each lane, repeated until a block can be cut out of it at any place of its first period.
    runs: &'a [Zeroizing<Vec<u8>>; LANES],
    period: usize,
    zeros: usize,
    lengths: [usize; LANES],
}

type Blocks = [[u8; BLOCK]; LANES];

impl Input<'_> {
    fn hash(&self, workspace: &mut Workspace) -> Zeroizing<[[u8; DIGEST]; LANES]> {
        let whole = self.lengths.map(|length| length / BLOCK);
        let mut state = Zeroizing::new(INITIAL.map(|word| [word; LANES]));
        let mut finished = Zeroizing::new(*state);
        self.absorb_whole_blocks(&whole, workspace, &mut state, &mut finished);
        self.absorb_ends(&whole, &mut finished);
        let mut hashes = Zeroizing::new([[0; DIGEST]; LANES]);
        for (lane, hash) in hashes.iter_mut().enumerate() {
            for (word, bytes) in finished.iter().zip(hash.chunks_exact_mut(4)) {
                bytes.copy_from_slice(&word[lane].to_be_bytes());
            }
        }
        hashes
    }

    /// Hashes on until the longest lane has no whole block left; `finished` keeps each lane as it was at its own end.
    fn absorb_whole_blocks(
        &self,
        whole: &[usize; LANES],
        workspace: &mut Workspace,
        state: &mut State,
        finished: &mut State,
    ) {
        // See `suits`: every lane has many blocks.
        let longest = whole.iter().copied().max().unwrap_or(0);
        // The first block may begin with zeros, so the cycle starts with the second.
        absorb(state, self.schedules(0, 1, workspace), 0, 1);
        let cycle = self.schedules(1, self.blocks_before_repetition().min(longest), workspace);
        let mut at = 1;
        let mut ends = *whole;
        ends.sort_unstable();
        for end in ends {
            absorb(state, cycle, at - 1, end - 1);
            at = end;
            for lane in (0..LANES).filter(|lane| whole[*lane] == end) {
                finished.iter_mut().zip(state.iter()).for_each(|(to, from)| to[lane] = from[lane]);
            }
        }
    }

    /// Hashes the last octets, the padding and the length: one more block, or two where these do not fit into one.
    fn absorb_ends(&self, whole: &[usize; LANES], finished: &mut State) {
        let mut first: Zeroizing<Blocks> = Zeroizing::new([[0; BLOCK]; LANES]);
        let mut second: Zeroizing<Blocks> = Zeroizing::new([[0; BLOCK]; LANES]);
        let mut needs_second = [false; LANES];
        for lane in 0..LANES {
            let rest = self.lengths[lane] - whole[lane] * BLOCK;
            self.copy(lane, whole[lane], &mut first[lane][..rest]);
            first[lane][rest] = 0x80;
            let bits = (self.lengths[lane] as u64 * 8).to_be_bytes();
            needs_second[lane] = rest >= BLOCK - 8;
            let last = if needs_second[lane] { &mut second[lane] } else { &mut first[lane] };
            last[BLOCK - 8..].copy_from_slice(&bits);
        }
        let mut words = Zeroizing::new([[[0; LANES]; 80]]);
        schedule(&first, &mut words[0]);
        absorb(finished, &*words, 0, 1);
        let mut longer = Zeroizing::new(*finished);
        schedule(&second, &mut words[0]);
        absorb(&mut longer, &*words, 0, 1);
        for lane in (0..LANES).filter(|lane| needs_second[*lane]) {
            finished.iter_mut().zip(longer.iter()).for_each(|(to, from)| to[lane] = from[lane]);
        }
    }

    /// Blocks after which the input repeats itself.
    fn blocks_before_repetition(&self) -> usize {
        self.period / (1 << self.period.trailing_zeros()).min(BLOCK)
    }

    /// The schedules of `count` blocks from the block number `from`.
    fn schedules<'w>(&self, from: usize, count: usize, workspace: &'w mut Workspace) -> &'w [Schedule] {
        let table = &mut workspace.0;
        if table.len() < count {
            // A new table, so that the old one is wiped: growing it could leave a copy of the passphrase's blocks.
            *table = Zeroizing::new(vec![[[0; LANES]; 80]; count]);
        }
        let mut blocks: Zeroizing<Blocks> = Zeroizing::new([[0; BLOCK]; LANES]);
        for (number, words) in table[..count].iter_mut().enumerate() {
            (0..LANES).for_each(|lane| self.copy(lane, from + number, &mut blocks[lane]));
            schedule(&blocks, words);
        }
        &table[..count]
    }

    /// Copies the beginning of a block of a lane's input, `out` octets long.
    fn copy(&self, lane: usize, block: usize, out: &mut [u8]) {
        let run = &self.runs[lane];
        let Some(offset) = (block * BLOCK).checked_sub(self.zeros) else {
            // The first block of a second or third hash.
            let (zeros, rest) = out.split_at_mut(self.zeros);
            zeros.fill(0);
            return rest.copy_from_slice(&run[..rest.len()]);
        };
        let at = offset % self.period;
        out.copy_from_slice(&run[at..at + out.len()]);
    }
}

/// The message schedule of one block of every lane, FIPS 180-4 section 6.1.2, round constants added.
fn schedule(blocks: &Blocks, words: &mut Schedule) {
    for (lane, block) in blocks.iter().enumerate() {
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            word[lane] = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }
    expand(words);
}

/// Works the last 64 words out of the first 16.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn expand(words: &mut Schedule) {
    for t in 16..80 {
        let (before, rest) = words.split_at_mut(t);
        for lane in 0..LANES {
            let mixed =
                before[t - 3][lane] ^ before[t - 8][lane] ^ before[t - 14][lane] ^ before[t - 16][lane];
            rest[0][lane] = mixed.rotate_left(1);
        }
    }
    for (words, constant) in words.chunks_exact_mut(20).zip(CONSTANTS) {
        for word in words.iter_mut() {
            word.iter_mut().for_each(|value| *value = value.wrapping_add(constant));
        }
    }
}

/// Twenty rounds in every lane. The rounds are spelled out and the loop over lanes is the outer one, because the
/// compiler vectorises exactly this shape: a plain loop body over consecutive words.
macro_rules! twenty_rounds {
    ($state:ident, $words:expr, $mix:ident) => {
        twenty_rounds!($state, $words, $mix, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19])
    };
    ($state:ident, $words:expr, $mix:ident, [$($t:literal)*]) => {
        for lane in 0..LANES {
            let [mut a, mut b, mut c, mut d, mut e] = [
                $state[0][lane], $state[1][lane], $state[2][lane], $state[3][lane], $state[4][lane],
            ];
            $(
                let next = a
                    .rotate_left(5)
                    .wrapping_add($mix(b, c, d))
                    .wrapping_add(e)
                    .wrapping_add($words[$t][lane]);
                (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
            )*
            $state[0][lane] = a;
            $state[1][lane] = b;
            $state[2][lane] = c;
            $state[3][lane] = d;
            $state[4][lane] = e;
        }
    };
}

/// Hashes the blocks `from` to `to`, exclusive, of an endless repetition of `cycle`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn absorb(state: &mut State, cycle: &[Schedule], from: usize, to: usize) {
    for number in from..to {
        let words = &cycle[number % cycle.len()];
        let mut next = *state;
        twenty_rounds!(next, &words[..20], choose);
        twenty_rounds!(next, &words[20..40], parity);
        twenty_rounds!(next, &words[40..60], majority);
        twenty_rounds!(next, &words[60..], parity);
        for (sum, word) in state.iter_mut().zip(&next) {
            sum.iter_mut().zip(word).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
        }
    }
}

#[inline(always)]
fn choose(b: u32, c: u32, d: u32) -> u32 {
    d ^ (b & (c ^ d))
}

#[inline(always)]
fn parity(b: u32, c: u32, d: u32) -> u32 {
    b ^ c ^ d
}

#[inline(always)]
fn majority(b: u32, c: u32, d: u32) -> u32 {
    (b & c) | (d & (b | c))
}
