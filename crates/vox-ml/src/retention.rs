//! Which checkpoints of a training are kept.
//!
//! The newest are, so that it can go on; and, where wanted, the one with the lowest loss on the
//! evaluation split. What must stay true: the newest is never among those that may go, and a loss
//! that is no number is never the best.

/// A checkpoint that was saved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saved {
    /// Steps that were done.
    pub step: u64,
    /// Loss on the evaluation split at this step, where one was made.
    pub eval_loss: Option<f64>,
}

/// The checkpoint with the lowest loss on the evaluation split; of several, the first.
pub fn best(saved: &[Saved]) -> Option<Saved> {
    let evaluated = saved.iter().filter_map(|saved| {
        let loss = saved.eval_loss.filter(|loss| !loss.is_nan())?;
        Some((loss, *saved))
    });
    evaluated
        .min_by(|(a, one), (b, other)| a.total_cmp(b).then(one.step.cmp(&other.step)))
        .map(|(_, saved)| saved)
}

/// The steps whose checkpoints may go, ascending: all but the newest `keep_last`, at least one, and
/// the best with `keep_best`.
pub fn surplus(saved: &[Saved], keep_last: u32, keep_best: bool) -> Vec<u64> {
    let best = if keep_best { best(saved) } else { None };
    let mut steps: Vec<u64> = saved.iter().map(|saved| saved.step).collect();
    steps.sort_unstable();
    steps.dedup();
    let older = steps.len().saturating_sub(keep_last.max(1) as usize);
    steps.truncate(older);
    steps.retain(|step| best.is_none_or(|best| best.step != *step));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(losses: &[(u64, Option<f64>)]) -> Vec<Saved> {
        let losses = losses.iter();
        losses
            .map(|(step, eval_loss)| Saved {
                step: *step,
                eval_loss: *eval_loss,
            })
            .collect()
    }

    #[test]
    fn the_newest_are_kept_and_the_best_beside_them() {
        let saved = saved(&[
            (10, Some(3.0)),
            (20, Some(1.0)),
            (30, Some(2.0)),
            (40, None),
        ]);
        assert_eq!(surplus(&saved, 2, false), [10, 20]);
        assert_eq!(surplus(&saved, 2, true), [10]);
        assert_eq!(surplus(&saved, 9, false), [0_u64; 0]);
    }

    #[test]
    fn the_newest_is_kept_whatever_is_asked_for() {
        let saved = saved(&[(20, None), (10, None)]);
        assert_eq!(surplus(&saved, 0, false), [10]);
        assert_eq!(surplus(&[], 0, true), [0_u64; 0]);
    }

    #[test]
    fn of_equal_losses_the_first_is_best_and_no_number_never_is() {
        let nan = Some(f64::NAN);
        let list = saved(&[(30, Some(1.0)), (10, nan), (20, Some(1.0)), (40, None)]);
        assert_eq!(best(&list).map(|best| best.step), Some(20));
        assert_eq!(best(&saved(&[(10, nan), (20, None)])), None);
    }
}
