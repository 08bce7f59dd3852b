//! One run of a sweep: a configuration, and the name that follows from it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tpu_training::{cli::Data, config::TrainConfig};

/// A training that is part of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// `resnet18-b16-lr0.1-3f2a91c0`: the same for the same configuration, on every machine.
    pub id: String,
    /// What it learns from.
    #[serde(with = "data_name")]
    pub data: Data,
    /// Everything else that changes its result.
    pub config: TrainConfig,
}

impl Run {
    // ANCHOR: id
    /// A run, named.
    pub fn new(data: Data, config: TrainConfig) -> Self {
        let text =
            serde_json::json!({ "data": data_name::name(data), "config": config }).to_string();
        let digest = Sha256::digest(text.as_bytes());
        let hash: String = digest[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (network, batch, rate) = (&config.network, config.batch, config.learning_rate);
        Run {
            id: format!("{}-b{batch}-lr{rate}-{hash}", network.arch.name()),
            data,
            config,
        }
    }
    // ANCHOR_END: id

    /// Whether the id is the configuration's: what comes from a file or a pipe may say anything.
    pub fn is_genuine(&self) -> bool {
        Run::new(self.data, self.config.clone()).id == self.id
    }

    /// The same with another seed.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        let mut config = self.config.clone();
        config.seed = seed;
        Run::new(self.data, config)
    }

    // ANCHOR: program
    /// What runs with the same compiled programs have in common.
    pub fn program(&self) -> String {
        let config = &self.config;
        format!(
            "{} {:?} {} {:?} {:?} {} {:?} {}",
            data_name::name(self.data),
            config.network,
            config.batch,
            config.optimizer,
            config.precision,
            config.augment,
            config.conv,
            config.compile,
        )
    }
    // ANCHOR_END: program

    // ANCHOR: work
    /// How much there is to compute, in units that mean nothing but in comparison: images times
    /// layers times channels.
    pub fn work(&self) -> f64 {
        let network = &self.config.network;
        let layers = network.convs().len() as f64;
        layers
            * (network.width as f64 + 16.0)
            * self.config.epochs as f64
            * (1.0 + 16.0 / self.config.batch as f64)
    }
    // ANCHOR_END: work
}

/// [`Data`] in files, by the name that a flag has for it.
mod data_name {
    use clap::ValueEnum;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use tpu_training::cli::Data;

    pub fn name(data: Data) -> String {
        let value = data.to_possible_value().expect("no data set is hidden");
        value.get_name().to_owned()
    }

    pub fn serialize<S: Serializer>(data: &Data, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&name(*data))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        let text = String::deserialize(deserializer)?;
        Data::from_str(&text, false).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_holds_on_every_machine_and_tells_a_forged_run() {
        let run = Run::new(Data::Digits, TrainConfig::digits());
        // A change of this text would begin every sweep that is on its way anew.
        assert_eq!(run.id, "resnet18-b64-lr0.1-0985f99d");
        assert!(run.is_genuine());
        let mut forged = run.clone();
        forged.id = "../../etc".to_owned();
        assert!(!forged.is_genuine());
    }

    #[test]
    fn a_run_survives_its_text() {
        let run = Run::new(Data::Cifar10, TrainConfig::digits()).with_seed(7);
        let text = serde_json::to_string(&run).unwrap();
        assert!(text.contains(r#""data":"cifar10""#), "{text}");
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
    }
}
