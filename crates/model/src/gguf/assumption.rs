//! What a GGUF file leaves out and we filled in, to be told to the user.

use std::fmt;

/// One thing the file does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assumption {
    /// Groups of experts, from their number.
    Groups { n_experts: usize, n_group: usize, topk_group: usize },
    /// Sigmoid gating, because the routers have correction biases.
    SigmoidGate,
    /// Softmax gating, because they have none.
    SoftmaxGate,
    /// Weights of the chosen experts summing to one, as in every release with that gate.
    NormalisedWeights,
    /// MTP layers that the metadata announce and the file does not hold.
    NoMtp { announced: usize },
    /// The two `mscale` words of YaRN, of which a file holds one.
    EqualMscale,
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Groups { n_experts, n_group, topk_group } => write!(
                f,
                "the file names no expert groups; {n_experts} experts are taken as {n_group} \
                 groups of which {topk_group} are kept, as in the release of that size"
            ),
            Self::SigmoidGate => {
                write!(f, "the file names no gate; sigmoid, since routers have correction biases")
            }
            Self::SoftmaxGate => {
                write!(
                    f,
                    "the file names no gate; softmax, since routers have no correction biases"
                )
            }
            Self::NormalisedWeights => {
                write!(f, "the file does not say whether weights of experts sum to one; they do")
            }
            Self::NoMtp { announced } => {
                write!(f, "{announced} MTP layers are announced, but the file holds none")
            }
            Self::EqualMscale => {
                write!(f, "`mscale` is taken to equal `mscale_all_dim`, as in every release")
            }
        }
    }
}
