//! The dense leg: vectors in a usearch graph (unit length, half precision), mapped from disk.
//!
//! Beside the graph stands a [`Sketch`]: all vectors in 4 bits, in memory. Up to [`SKETCHED`] of them a search compares the
//! query with every one, and the best exactly. That finds what the graph misses: texts that are much alike link to one
//! another alone, and where only few chunks are allowed (a language, an operator's own) a walk through the graph meets
//! few of them. Of more vectors the graph proposes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

use parking_lot::Mutex;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind, VectorType};

use crate::compute::native::Sketch;
use crate::compute::{cosine, distance_of_units, dot, for_each_index};
use crate::kb::KbError;

/// Vectors linked between two reports of progress: some ten milliseconds' work, so that the pool is soon free for others.
const LINKED_TOGETHER: usize = 64;
/// Searches at once in one graph; more of them wait for a moment.
const SEARCHERS: usize = 64;
/// Vectors beyond the wanted ones that are compared exactly: what 4 bits may put in the wrong order; and one more of so
/// many, since the more there are, the closer they lie.
const BESIDE: usize = 64;
const ONE_OF: usize = 1000;
/// What two ways of computing a cosine of half-precision vectors may differ by.
const ROUNDING: f32 = 1e-4;
/// Most vectors that are compared one by one: 4 ms of one search, and 43 MB at 384 dimensions.
const SKETCHED: usize = 200_000;

/// A vector's key: the chunk's position, and 0 for its text or 1.. for its questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct VectorKey {
    pub chunk: u32,
    pub slot: u16,
}

impl VectorKey {
    fn packed(self) -> u64 {
        u64::from(self.chunk) << 16 | u64::from(self.slot)
    }

    fn unpacked(key: u64) -> Self {
        Self { chunk: (key >> 16) as u32, slot: (key & 0xffff) as u16 }
    }
}

/// Vectors of one index.
pub(super) struct Dense {
    index: Index,
    dimensions: usize,
    /// Slots that each chunk has vectors for.
    slots: HashMap<u32, u16>,
    /// All vectors, and whose they are.
    sketch: Option<(Sketch, Vec<VectorKey>)>,
}

impl Dense {
    /// Links vectors (`[dimensions]` each) to a graph, on all cores, and writes it to a new file. `progress` is called
    /// with how many are linked.
    pub fn write(
        path: &Path,
        dimensions: usize,
        vectors: &[(VectorKey, Vec<f32>)],
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), KbError> {
        let mut index = new_index(dimensions)?;
        set_distance(&mut index, dimensions)?;
        index.reserve_capacity_and_threads(vectors.len().max(1), SEARCHERS).map_err(failed)?;
        let failure = Mutex::new(None);
        for (round, part) in vectors.chunks(LINKED_TOGETHER).enumerate() {
            for_each_index(part.len(), |at| {
                let (key, vector) = &part[at];
                if let Err(error) = index.add(key.packed(), &unit(vector)) {
                    failure.lock().get_or_insert(error);
                }
            });
            progress(round * LINKED_TOGETHER + part.len());
        }
        match failure.into_inner() {
            Some(error) => Err(failed(error)),
            None => index.save(&utf8(path)?).map_err(failed),
        }
    }

    /// Maps the file, to look vectors up; to search it, call [`Self::sketched`] too.
    pub fn open(path: &Path, dimensions: usize, keys: impl Iterator<Item = VectorKey>) -> Result<Self, KbError> {
        let mut index = new_index(dimensions)?;
        index.view(&utf8(path)?).map_err(failed)?;
        set_distance(&mut index, dimensions)?;
        index.reserve_capacity_and_threads(index.size(), SEARCHERS).map_err(failed)?;
        let mut slots: HashMap<u32, u16> = HashMap::new();
        for key in keys {
            let last = slots.entry(key.chunk).or_default();
            *last = (*last).max(key.slot + 1);
        }
        Ok(Self { index, dimensions, slots, sketch: None })
    }

    /// Makes the sketch, where the vectors are not too many and of a width that can be sketched.
    pub fn sketched(mut self) -> Result<Self, KbError> {
        if self.index.size() == 0 || self.index.size() > SKETCHED || !Sketch::takes(self.dimensions) {
            return Ok(self);
        }
        let of_chunk = |(&chunk, &slots): (&u32, &u16)| (0..slots).map(move |slot| VectorKey { chunk, slot });
        let mut keys: Vec<VectorKey> = self.slots.iter().flat_map(of_chunk).collect();
        keys.sort_unstable();
        keys.retain(|key| self.index.contains(key.packed()));
        let mut failure = None;
        let sketch = Sketch::of(keys.len(), self.dimensions, |first, to| {
            for (key, to) in keys[first..].iter().zip(to.chunks_exact_mut(self.dimensions)) {
                failure = self.index.get(key.packed(), to).err().or(failure.take());
            }
        });
        match failure {
            Some(error) => return Err(failed(error)),
            None => self.sketch = Some((sketch.map_err(failed)?, keys)),
        }
        Ok(self)
    }

    /// The nearest vectors among those that `allowed` lets through: (key, cosine), best first.
    pub fn search(
        &self,
        query: &[f32],
        limit: usize,
        allowed: impl Fn(u32) -> bool,
    ) -> Result<Vec<(VectorKey, f32)>, KbError> {
        if query.len() != self.dimensions {
            let reason = format!("the query has {} dimensions, the index {}", query.len(), self.dimensions);
            return Err(KbError::Index(reason));
        }
        let limit = limit.min(self.index.size());
        if limit == 0 {
            return Ok(Vec::new());
        }
        let query = unit(query);
        match &self.sketch {
            Some((sketch, keys)) => {
                self.compare(&sketch.products(&query).map_err(failed)?, keys, &query, limit, allowed)
            }
            None => self.walk(&query, limit, allowed),
        }
    }

    /// The best of all allowed vectors by their rough products, put in order exactly.
    fn compare(
        &self,
        products: &[f32],
        keys: &[VectorKey],
        query: &[f32],
        limit: usize,
        allowed: impl Fn(u32) -> bool,
    ) -> Result<Vec<(VectorKey, f32)>, KbError> {
        let rough = (limit + BESIDE + keys.len() / ONE_OF).min(keys.len());
        let mut best: BinaryHeap<Reverse<Rough>> = BinaryHeap::with_capacity(rough + 1);
        for (at, product) in products.iter().enumerate() {
            let full = best.len() == rough;
            let better = best.peek().is_none_or(|worst| *product > worst.0.product);
            if (better || !full) && allowed(keys[at].chunk) {
                if full {
                    best.pop();
                }
                best.push(Reverse(Rough { product: *product, at }));
            }
        }
        let mut vector = vec![0f32; self.dimensions];
        let mut found = Vec::with_capacity(best.len());
        for Reverse(Rough { at, .. }) in best {
            self.index.get(keys[at].packed(), &mut vector).map_err(failed)?;
            found.push((keys[at], dot(query, &vector)));
        }
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(limit);
        Ok(found)
    }

    /// What the graph finds.
    fn walk(
        &self,
        query: &[f32],
        limit: usize,
        allowed: impl Fn(u32) -> bool,
    ) -> Result<Vec<(VectorKey, f32)>, KbError> {
        let filter = |key: u64| allowed(VectorKey::unpacked(key).chunk);
        // usearch refuses a search while all its searchers are taken; they are free again within a millisecond.
        let mut tries = 0;
        let matches = loop {
            match self.index.filtered_search(query, limit, filter) {
                Ok(matches) => break matches,
                Err(_) if tries < 50 => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(e) => return Err(failed(e)),
            }
        };
        let found = matches.keys.iter().zip(&matches.distances);
        Ok(found.map(|(key, distance)| (VectorKey::unpacked(*key), 1.0 - distance)).collect())
    }

    /// Of the `limit` nearest vectors by exact comparison, the share that a search finds, and that the graph finds alone;
    /// the means over the queries. What is as near as the last of them is as good: equal texts have equal vectors.
    pub fn recall(&self, queries: &[Vec<f32>], limit: usize) -> Result<[f32; 2], KbError> {
        let (mut found, mut all) = ([0; 2], 0);
        for query in queries {
            let query = unit(query);
            let exact = self.index.exact_search(&query, limit).map_err(failed)?;
            let ways = [self.search(&query, limit, |_| true)?, self.walk(&query, limit, |_| true)?];
            for (found, way) in found.iter_mut().zip(ways) {
                let least = exact.distances.last().map_or(f32::MAX, |distance| 1.0 - distance - ROUNDING);
                *found += way.iter().filter(|(_, cosine)| *cosine >= least).count();
            }
            all += exact.keys.len();
        }
        Ok(found.map(|found| if all > 0 { found as f32 / all as f32 } else { 1.0 }))
    }

    /// The stored vector.
    pub fn vector(&self, key: VectorKey) -> Option<Vec<f32>> {
        let mut vector = vec![0f32; self.dimensions];
        let found = self.index.get(key.packed(), &mut vector).ok()?;
        (found > 0).then_some(vector)
    }

    /// Cosine of the query with each vector of a chunk, by slot.
    pub fn cosines(&self, query: &[f32], chunk: u32) -> Vec<f32> {
        let slots = self.slots.get(&chunk).copied().unwrap_or(0);
        let keys = (0..slots).map(|slot| VectorKey { chunk, slot });
        keys.filter_map(|key| self.vector(key)).map(|vector| cosine(query, &vector)).collect()
    }
}

/// A vector's rough product, ordered by it.
struct Rough {
    product: f32,
    at: usize,
}

impl Ord for Rough {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.product.total_cmp(&other.product).then(other.at.cmp(&self.at))
    }
}

impl PartialOrd for Rough {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rough {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rough {}

/// Many texts that are alike (releases of one page, products of one kind) link to one another alone where nodes have few
/// links: a search then does not come out of such a group.
const CONNECTIVITY: usize = 32;
const CANDIDATES_ADDED: usize = 256;
const CANDIDATES_SEARCHED: usize = 384;

fn new_index(dimensions: usize) -> Result<Index, KbError> {
    Index::new(&IndexOptions {
        dimensions,
        metric: MetricKind::IP,
        quantization: ScalarKind::F16,
        connectivity: CONNECTIVITY,
        expansion_add: CANDIDATES_ADDED,
        expansion_search: CANDIDATES_SEARCHED,
        multi: false,
    })
    .map_err(failed)
}

/// Measures distances with our own kernel. Reading a file brings usearch's own back, so this comes after it.
fn set_distance(index: &mut Index, dimensions: usize) -> Result<(), KbError> {
    if index.dimensions() != dimensions {
        let reason = format!("the file of vectors has {} dimensions, expected {dimensions}", index.dimensions());
        return Err(KbError::Index(reason));
    }
    usearch::f16::change_metric(index, distance_of_units(dimensions)).map_err(failed)
}

/// The vector at length 1; zeros stay zeros.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let share = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter().map(|x| x * share).collect()
}

fn failed(e: impl std::fmt::Display) -> KbError {
    KbError::Index(format!("vectors: {e}"))
}

fn utf8(path: &Path) -> Result<String, KbError> {
    let reason = || KbError::Io { path: path.display().to_string(), reason: "the path is not UTF-8".into() };
    path.to_str().map(str::to_string).ok_or_else(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_found_by_cosine_after_a_trip_to_disk_and_only_where_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v");
        let key = |chunk, slot| VectorKey { chunk, slot };
        let vectors = vec![
            (key(0, 0), vec![1.0, 0.0, 0.0, 0.0]),
            (key(0, 1), vec![0.0, 2.0, 0.0, 0.0]),
            (key(7, 0), vec![0.6, 0.8, 0.0, 0.0]),
        ];
        Dense::write(&path, 4, &vectors, &mut |_| {}).unwrap();
        let dense = Dense::open(&path, 4, vectors.iter().map(|(key, _)| *key)).unwrap();
        let found = dense.search(&[0.0, 1.0, 0.0, 0.0], 10, |_| true).unwrap();
        assert_eq!(found.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(0, 1), key(7, 0), key(0, 0)]);
        assert!((found[1].1 - 0.8).abs() < 1e-3);
        let found = dense.search(&[0.0, 1.0, 0.0, 0.0], 10, |chunk| chunk == 7).unwrap();
        assert_eq!(found.len(), 1);
        let cosines = dense.cosines(&[0.0, 1.0, 0.0, 0.0], 0);
        assert!(cosines[0].abs() < 1e-3 && (cosines[1] - 1.0).abs() < 1e-3);
        assert!(dense.search(&[1.0], 3, |_| true).is_err());
    }
}
