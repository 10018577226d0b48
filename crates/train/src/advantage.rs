//! Advantages of a group of answers to one question
//! (GRPO: DeepSeekMath, arXiv:2402.03300, section 4.1.2).

/// `(r - mean) / std` with the population deviation, or `r - mean` without `scale_by_std`
/// (Dr. GRPO, arXiv:2503.20783). A group whose rewards are all equal has advantage 0.
///
/// ```
/// use fathom_train::advantage::group_advantages;
/// assert_eq!(group_advantages(&[1.0, 0.0, 0.0, 1.0], true), [1.0, -1.0, -1.0, 1.0]);
/// assert_eq!(group_advantages(&[2.0, 2.0], true), [0.0, 0.0]);
/// ```
pub fn group_advantages(rewards: &[f64], scale_by_std: bool) -> Vec<f64> {
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n;
    let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n;
    if variance <= 0.0 {
        return vec![0.0; rewards.len()];
    }
    let scale = if scale_by_std { variance.sqrt() } else { 1.0 };
    rewards.iter().map(|r| (r - mean) / scale).collect()
}
