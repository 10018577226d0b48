//! How many tokens to guess next, from what guessing cost and brought lately.
//!
//! Kept are the time of a step by its number of guesses, and how often the guess at each place was
//! right, given that those before it were; both forget. The number with the most expected tokens per
//! second is taken. Now and then another one is tried, more rarely the longer that changes nothing, so
//! a text that cannot be guessed costs a few trials and no more. Times differ from run to run, and
//! with them the guesses; answers do not depend on them.

/// Weight of the newest observation.
const NEWEST: f64 = 0.125;
/// How often guesses are taken to be right before any was checked.
const HOPE: f64 = 0.75;
/// A step that takes longer than this many times the usual was disturbed.
const DISTURBED: f64 = 2.0;
/// Steps between trials, at first and at most.
const TRY_EVERY: [u32; 2] = [8, 64];

/// The policy of one answer.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    adaptive: bool,
    /// Seconds of a step by its number of guesses; 0 where none was timed. Length n + 1.
    seconds: Vec<f64>,
    /// How often the guess at a place is right if those before are. Length n.
    right: Vec<f64>,
    /// Steps until another number is tried, and between trials.
    left: u32,
    every: u32,
    /// The number tried last.
    tried: usize,
}

impl Pace {
    /// At most `n` tokens at a time; always `n` unless `adaptive`.
    pub(crate) fn new(n: usize, adaptive: bool) -> Pace {
        let [every, _] = TRY_EVERY;
        Pace {
            adaptive,
            seconds: vec![0.0; n + 1],
            right: vec![HOPE; n],
            left: every,
            every,
            tried: n,
        }
    }

    /// How many tokens to guess next.
    pub(crate) fn wish(&mut self) -> usize {
        let most = self.right.len();
        if !self.adaptive {
            return most;
        }
        // One plain step, to compare with, and one with all guesses.
        if let Some(untimed) = [most, 0].into_iter().find(|k| self.seconds[*k] == 0.0) {
            return untimed;
        }
        let best = self.best();
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return best;
        }
        self.left = self.every;
        self.every = (2 * self.every).min(TRY_EVERY[1]);
        self.tried = (self.tried + 1) % (most + 1);
        if self.tried == best {
            self.tried = (self.tried + 1) % (most + 1);
        }
        self.tried
    }

    /// What a step of `n_drafted` guesses brought. `seconds` is the time of the whole step.
    pub(crate) fn learn(&mut self, n_drafted: usize, n_accepted: usize, seconds: f64) {
        if !self.adaptive || n_drafted >= self.seconds.len() {
            return;
        }
        let before = self.best();
        for (place, right) in self.right.iter_mut().enumerate().take(n_drafted) {
            if place > n_accepted {
                break;
            }
            let was_right = if place < n_accepted { 1.0 } else { 0.0 };
            *right += NEWEST * (was_right - *right);
        }
        let usual = &mut self.seconds[n_drafted];
        *usual = match *usual {
            0.0 => seconds,
            usual => usual + NEWEST * (seconds.min(DISTURBED * usual) - usual),
        };
        if self.best() != before {
            (self.left, self.every) = (TRY_EVERY[0], TRY_EVERY[0]);
        }
    }

    /// The number of guesses with the most tokens per second.
    fn best(&self) -> usize {
        let (mut best, mut best_rate) = (0, 0.0);
        let (mut tokens, mut reached) = (1.0, 1.0);
        for k in 0..self.seconds.len() {
            if k > 0 {
                reached *= self.right[k - 1];
                tokens += reached;
            }
            let rate = tokens / self.expected_seconds(k).max(1e-9);
            if rate > best_rate {
                (best, best_rate) = (k, rate);
            }
        }
        best
    }

    /// Time of a step with `k` guesses: as timed, else on the line between those timed nearest.
    fn expected_seconds(&self, k: usize) -> f64 {
        if self.seconds[k] > 0.0 {
            return self.seconds[k];
        }
        let timed = |k: &usize| self.seconds[*k] > 0.0;
        let below = (0..k).rev().find(timed);
        let above = (k + 1..self.seconds.len()).find(timed);
        match (below, above) {
            (Some(low), Some(high)) => {
                let share = (k - low) as f64 / (high - low) as f64;
                self.seconds[low] + share * (self.seconds[high] - self.seconds[low])
            }
            (Some(near), None) | (None, Some(near)) => self.seconds[near],
            (None, None) => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `n_steps` where a guess is right `right` of the time and costs `cost` of a plain step.
    /// Returns tokens, time, and the number of guesses at the end.
    fn simulate(n_steps: usize, right: f64, cost: f64) -> (f64, f64, usize) {
        let mut pace = Pace::new(3, true);
        let (mut tokens, mut time, mut luck) = (0.0, 0.0, 0.0);
        for _ in 0..n_steps {
            let k = pace.wish();
            let mut accepted = 0;
            while accepted < k {
                luck = (luck + 0.618_033_988_7) % 1.0;
                if luck >= right {
                    break;
                }
                accepted += 1;
            }
            let seconds = 1.0 + cost * k as f64;
            tokens += 1.0 + accepted as f64;
            time += seconds;
            pace.learn(k, accepted, seconds);
        }
        (tokens, time, pace.best())
    }

    #[test]
    fn guesses_that_are_always_wrong_cost_a_few_percent_at_most() {
        let (tokens, time, best) = simulate(1000, 0.0, 0.3);
        assert_eq!(best, 0);
        assert!(time < 1.03 * tokens, "{time} for {tokens} tokens");
    }

    #[test]
    fn good_and_cheap_guesses_are_used_to_the_full() {
        let (tokens, time, best) = simulate(1000, 0.9, 0.05);
        assert_eq!(best, 3);
        assert!(tokens > 2.5 * time, "{time} for {tokens} tokens");
    }

    #[test]
    fn dear_guesses_are_used_as_far_as_they_pay() {
        // The second guess is right in half of all steps and costs as much as it saves.
        let (.., best) = simulate(1000, 0.8, 0.6);
        assert_eq!(best, 1);
    }

    #[test]
    fn without_adapting_the_number_stays() {
        let mut pace = Pace::new(2, false);
        for _ in 0..20 {
            assert_eq!(pace.wish(), 2);
            pace.learn(2, 0, 9.0);
        }
    }
}
