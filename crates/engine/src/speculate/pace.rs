//! How many tokens to guess next, from what guessing cost and brought lately.
//!
//! Kept are the time of a step by its number of guesses, and how often the guess at each place was
//! right, given that those before it were; both forget. A place never guessed at is taken to be as good
//! as the one before. The number with the most expected tokens per second is taken. Now and then another
//! one is tried, more rarely the longer that changes nothing, so a text that cannot be guessed costs a
//! few trials and no more. Times differ from run to run, and with them the guesses; answers do not
//! depend on them.
//!
//! Who guesses again after steps without guesses first reads what came meanwhile. Such a step takes
//! longer than those after it, so its time does not count, and a trial then has two steps.

/// Weight of the newest observation, once there are as many as its inverse; before, all weigh the same.
const NEWEST: f64 = 0.125;
/// The same for a memory that a few wrong guesses in a row, as numbers and names bring them, do not sway.
const NEWEST_OF_MANY: f64 = 0.03125;
/// How often guesses are taken to be right before any was checked, and how many checks that weighs.
const HOPE: f64 = 0.75;
const HOPE_WEIGHT: u32 = 4;
/// A step that takes longer than this many times the usual was disturbed.
const DISTURBED: f64 = 1.5;
/// Guesses of the first step.
const FIRST: usize = 2;
/// Steps between trials, at first and at most.
const TRY_EVERY: [u32; 2] = [12, 96];

/// The policy of a session.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    adaptive: bool,
    /// Steps by their number of guesses. Length n + 1.
    steps: Vec<Steps>,
    /// The guess at each place, if those before are right. Length n.
    places: Vec<Place>,
    /// Steps until another number is tried, and between trials.
    left: u32,
    every: u32,
    /// The number tried last, and whether it is tried once more.
    tried: usize,
    again: bool,
    /// What was wished last, and whether no guess was wished before that.
    wished: usize,
    was_plain: bool,
}

/// Guesses at one place.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    n: u32,
    /// How often they were right lately, and over a longer time.
    lately: f64,
    long: f64,
}

/// Steps with one number of guesses.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    n: u32,
    /// What one takes.
    seconds: f64,
}

impl Pace {
    /// At most `n` tokens at a time; always `n` unless `adaptive`.
    pub(crate) fn new(n: usize, adaptive: bool) -> Pace {
        let [every, _] = TRY_EVERY;
        Pace {
            adaptive,
            steps: vec![Steps::default(); n + 1],
            places: vec![Place::default(); n],
            left: every,
            every,
            tried: 0,
            again: false,
            wished: 0,
            was_plain: false,
        }
    }

    /// How many tokens to guess next.
    pub(crate) fn wish(&mut self) -> usize {
        self.wished = self.choose();
        self.wished
    }

    fn choose(&mut self) -> usize {
        let most = self.places.len();
        if !self.adaptive {
            return most;
        }
        if std::mem::take(&mut self.again) {
            return self.tried;
        }
        // One step with some guesses, and one without to compare it with.
        if let Some(untimed) = [FIRST.min(most), 0].into_iter().find(|k| self.steps[*k].n == 0) {
            return untimed;
        }
        let best = self.best();
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return best;
        }
        self.left = self.every;
        self.every = (2 * self.every).min(TRY_EVERY[1]);
        // Neighbours of the best are tried in turn, and guessing at all where it does not pay.
        let others = [best + 1, best.saturating_sub(1)].map(|k| k.min(most));
        self.tried = if others[0] == self.tried { others[1] } else { others[0] };
        self.again = self.was_plain && self.tried > 0;
        self.tried
    }

    /// What a step of `n_drafted` guesses brought. `seconds` is the time of the whole step.
    pub(crate) fn learn(&mut self, n_drafted: usize, n_accepted: usize, seconds: f64) {
        if !self.adaptive || n_drafted >= self.steps.len() {
            return;
        }
        let before = self.best();
        let mut hope = HOPE;
        for (at, place) in self.places.iter_mut().enumerate().take(n_drafted) {
            if at > n_accepted {
                break;
            }
            place.was(at < n_accepted, hope);
            hope = place.right_or(hope);
        }
        let waited = std::mem::replace(&mut self.was_plain, self.wished == 0);
        if n_drafted == 0 || !waited {
            self.steps[n_drafted].took(seconds);
        }
        if self.best() != before {
            (self.left, self.every) = (TRY_EVERY[0], TRY_EVERY[0]);
        }
    }

    /// The number of guesses with the most tokens per second.
    fn best(&self) -> usize {
        let (mut best, mut best_rate) = (0, 0.0);
        let (mut tokens, mut reached, mut right) = (1.0, 1.0, HOPE);
        for k in 0..self.steps.len() {
            if k > 0 {
                right = self.places[k - 1].right_or(right);
                reached *= right;
                tokens += reached;
            }
            let rate = tokens / self.expected_seconds(k).max(1e-9);
            if rate > best_rate {
                (best, best_rate) = (k, rate);
            }
        }
        best
    }

    /// Time of a step with `k` guesses: as timed, else on the line through two that were timed: the
    /// nearest below and above, or the two nearest below.
    fn expected_seconds(&self, k: usize) -> f64 {
        let timed = |k: &usize| self.steps[*k].n > 0;
        if timed(&k) {
            return self.steps[k].seconds;
        }
        let mut below = (0..k).rev().filter(timed);
        let ends = match (below.next(), (k + 1..self.steps.len()).find(timed)) {
            (Some(low), Some(high)) => Some((low, high)),
            (Some(high), None) => below.next().map(|low| (low, high)),
            _ => None,
        };
        let Some((low, high)) = ends else { return 1.0 };
        let (from, to) = (self.steps[low].seconds, self.steps[high].seconds);
        // More guesses never take less time; where it was measured so, something disturbed.
        from + (k - low) as f64 / (high - low) as f64 * (to - from).max(0.0)
    }
}

impl Place {
    /// How often a guess here is right; `hope` before any was checked. The better of both memories:
    /// what has become right is soon known, and a bad stretch does not end guessing.
    fn right_or(&self, hope: f64) -> f64 {
        if self.n > 0 { self.lately.max(self.long) } else { hope }
    }

    fn was(&mut self, right: bool, hope: f64) {
        if self.n == 0 {
            (self.lately, self.long) = (hope, hope);
        }
        self.n = self.n.saturating_add(1);
        let of_all = 1.0 / f64::from(self.n.saturating_add(HOPE_WEIGHT));
        let was_right = if right { 1.0 } else { 0.0 };
        self.lately += of_all.max(NEWEST) * (was_right - self.lately);
        self.long += of_all.max(NEWEST_OF_MANY) * (was_right - self.long);
    }
}

impl Steps {
    fn took(&mut self, seconds: f64) {
        self.n = self.n.saturating_add(1);
        let weight = (1.0 / f64::from(self.n)).max(NEWEST);
        let seconds = if self.n > 1 { seconds.min(DISTURBED * self.seconds) } else { seconds };
        self.seconds += weight * (seconds - self.seconds);
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
    fn places_not_yet_tried_are_as_good_as_those_before() {
        let mut pace = Pace::new(4, true);
        for _ in 0..8 {
            let k = pace.wish();
            pace.learn(k, k, 1.0 + 0.2 * k as f64);
        }
        assert_eq!(pace.best(), 4);
    }

    #[test]
    fn what_waited_for_a_guess_is_not_its_price() {
        // Guesses pay, but every row of a step without them is read before the next guess.
        let mut pace = Pace::new(2, true);
        let (mut n_waiting, mut n_guessed) = (0.0, 0);
        for step in 0..600 {
            let k = pace.wish();
            let waited = if k > 0 { std::mem::take(&mut n_waiting) } else { 0.0 };
            n_waiting += if k == 0 { 1.0 } else { 0.0 };
            // Bad luck at first, so that guessing is given up.
            let accepted = if step < 40 { 0 } else { k };
            n_guessed += if step >= 200 { k } else { 0 };
            pace.learn(k, accepted, 1.0 + 0.4 * k as f64 + 0.2 * waited);
        }
        assert!(n_guessed > 2 * 350, "{n_guessed} guesses in 400 steps");
    }

    #[test]
    fn guesses_are_taken_up_again_when_they_become_right() {
        let mut pace = Pace::new(4, true);
        let mut n_late = 0;
        for step in 0..800 {
            let k = pace.wish();
            let accepted = if step < 400 { 0 } else { k };
            n_late += if step >= 600 { k } else { 0 };
            pace.learn(k, accepted, 1.0 + 0.1 * k as f64);
        }
        assert!(n_late > 3 * 200, "{n_late} guesses in 200 steps");
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
