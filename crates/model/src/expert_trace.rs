//! Which experts the rows of a pass visited, for people who want to see why.

use std::sync::Arc;

/// The experts of each row of one pass, in the order of the MoE layers; within a layer ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpertTrace {
    n_rows: usize,
    /// [N, n_moe_layers, K]
    ids: Vec<u16>,
}

impl ExpertTrace {
    /// A trace that no pass has filled yet. It can be filled again and again.
    pub fn new() -> Self {
        ExpertTrace::default()
    }

    /// Rows of the pass.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The experts of a row, [n_moe_layers, K]; empty if the model has none. An id past the range of
    /// the type is its largest value.
    ///
    /// Panics if the pass had no such row.
    pub fn row(&self, row: usize) -> &[u16] {
        assert!(row < self.n_rows, "row {row} of {}", self.n_rows);
        let width = self.ids.len() / self.n_rows;
        &self.ids[row * width..(row + 1) * width]
    }

    /// Takes the experts of `n_rows` rows, [N, K] per layer.
    pub(crate) fn set(&mut self, n_rows: usize, layers: &[Arc<Vec<u32>>]) {
        self.n_rows = n_rows;
        self.ids.clear();
        for row in 0..n_rows {
            for ids in layers {
                let top_k = ids.len() / n_rows;
                let own = &ids[row * top_k..(row + 1) * top_k];
                self.ids.extend(own.iter().map(|id| u16::try_from(*id).unwrap_or(u16::MAX)));
            }
        }
    }
}
