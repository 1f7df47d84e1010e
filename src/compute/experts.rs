//! Which rows go to which expert of a mixture.

/// For each of `experts`: the rows that go to it, in order, with their weights. `logits` are the router's, `[row][expert]`;
/// each row goes to the `used` experts of the highest logits (the first of equals), with the softmax over those.
pub(super) fn route(logits: &[f32], experts: usize, used: usize) -> Vec<Vec<(usize, f32)>> {
    let mut to = vec![Vec::new(); experts];
    let mut order: Vec<usize> = Vec::with_capacity(experts);
    for (row, logits) in logits.chunks_exact(experts).enumerate() {
        order.clear();
        order.extend(0..experts);
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let chosen = &order[..used.min(experts)];
        let best = chosen.first().map_or(0.0, |expert| logits[*expert]);
        let total: f32 = chosen.iter().map(|expert| (logits[*expert] - best).exp()).sum();
        for expert in chosen {
            to[*expert].push((row, (logits[*expert] - best).exp() / total));
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_goes_to_its_best_experts_with_weights_that_add_up_to_one() {
        let to = route(&[0.0, 2.0, 1.0, 5.0, 5.0, -1.0], 3, 2);
        let weight = |gap: f32| 1.0 / (1.0 + gap.exp());
        assert_eq!(to[0], [(1, 0.5)]);
        assert_eq!(to[1].len(), 2);
        assert!((to[1][0].1 - weight(-1.0)).abs() < 1e-6 && to[1][1] == (1, 0.5));
        assert!((to[2][0].1 - weight(1.0)).abs() < 1e-6 && to[2].len() == 1);
    }

    #[test]
    fn more_experts_than_there_are_is_all_of_them() {
        let to = route(&[1.0, 1.0], 2, 9);
        assert_eq!(to, [[(0, 0.5)], [(0, 0.5)]]);
    }
}
