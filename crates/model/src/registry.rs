//! The architectures we read, train and write: one row each.

use crate::config::{Config, ConfigError, Family, Fields, parse};

/// One architecture.
#[derive(Debug)]
pub struct Architecture {
    pub family: Family,
    /// The value of `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The class in `architectures` that `transformers` opens.
    pub class: &'static str,
    /// For people, one line.
    pub description: &'static str,
    /// Reads the words of this architecture; `Config::from_json` calls it.
    pub parse: fn(&Fields<'_>) -> Result<Config, ConfigError>,
}

/// All of them, oldest first.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        family: Family::Llama,
        model_type: "llama",
        class: "LlamaForCausalLM",
        description: "dense, grouped-query attention: DeepSeek LLM, Coder, Math, R1-Distill-Llama",
        parse: parse::llama,
    },
    Architecture {
        family: Family::Qwen2,
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        description: "dense, q/k/v biases: R1-Distill-Qwen",
        parse: parse::qwen2,
    },
    Architecture {
        family: Family::Deepseek,
        model_type: "deepseek",
        class: "DeepseekForCausalLM",
        description: "fine-grained and shared experts: DeepSeekMoE",
        parse: parse::deepseek,
    },
    Architecture {
        family: Family::DeepseekV2,
        model_type: "deepseek_v2",
        class: "DeepseekV2ForCausalLM",
        description: "latent attention, softmax gate: DeepSeek-V2, V2.5, Coder-V2 and their Lite",
        parse: parse::deepseek_v2,
    },
    Architecture {
        family: Family::DeepseekV3,
        model_type: "deepseek_v3",
        class: "DeepseekV3ForCausalLM",
        description: "latent attention, bias-balanced sigmoid gate, MTP: DeepSeek-V3, R1, R1-Zero",
        parse: parse::deepseek_v3,
    },
];

/// The row of a `model_type`, if it is known.
pub fn by_model_type(model_type: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|a| a.model_type == model_type)
}

/// The row of a family.
pub fn by_family(family: Family) -> &'static Architecture {
    ARCHITECTURES.iter().find(|a| a.family == family).expect("a test walks every family")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{names, preset::PRESETS};

    #[test]
    fn every_architecture_has_a_row_and_a_preset_that_lists_its_tensors() {
        use Family::{Deepseek, DeepseekV2, DeepseekV3, Llama, Qwen2};
        for family in [Llama, Qwen2, Deepseek, DeepseekV2, DeepseekV3] {
            assert_eq!(by_family(family).family, family);
        }
        for row in ARCHITECTURES {
            assert_eq!(by_model_type(row.model_type).map(|a| a.class), Some(row.class));
            assert!(!row.description.contains('\n') && row.description.len() < 90);
            let of_row =
                PRESETS.iter().map(|p| (p.config)()).filter(|c| c.model_type == row.family);
            let smallest = of_row.min_by_key(|c| c.hidden_size * c.num_hidden_layers);
            let config = smallest.expect("an architecture needs a preset");
            let value = config.to_json();
            assert_eq!(value["model_type"], row.model_type);
            assert_eq!(value["architectures"][0], row.class);
            assert_eq!(Config::from_json(&value).as_ref(), Ok(&config));
            assert!(names::tensors(&config).len() > config.num_hidden_layers);
        }
    }
}
