//! In: `config.yaml` and `config_bert.json` of a published mPLUG folder. Out: the network's dimensions
//! and the numbers of its beam search, checked against each other.

use std::path::{Component, Path, PathBuf};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

use crate::checkpoint::config::Config;
use crate::checkpoint::file_fault::FileFault;
use crate::checkpoint::model_error::ModelError;
use crate::models::bert::BertSize;

/// Numbers of CLIP's vision heads.
pub(super) const VISION_HEAD: usize = 64;

/// What the configuration files say of a network. Keys that are absent have the defaults of the
/// original's classes; keys that change nothing here are passed over.
#[derive(Debug, Clone, PartialEq)]
pub struct MplugConfig {
    /// Side of the square picture that the network sees, in pixels.
    pub image_res: usize,
    /// Sequences that the beam search keeps.
    pub beam_size: usize,
    /// Tokens before which an answer may not end.
    pub min_length: usize,
    /// Tokens after which it ends, `[SEP]` included and `[CLS]` not.
    pub max_length: usize,
    /// Word pieces.
    pub vocab_size: usize,
    /// Positions of the text networks: the longest question, in tokens.
    pub max_positions: usize,
    /// `config.yaml`, for messages.
    pub(super) path: PathBuf,
    pub(super) patch: usize,
    pub(super) vision_width: usize,
    pub(super) vision_layers: usize,
    pub(super) segments: usize,
    /// Layers that the files hold for the fusion encoder, of which the last `fusion_layers` are used.
    pub(super) hidden_layers: usize,
    pub(super) text_layers: usize,
    pub(super) fusion_layers: usize,
    pub(super) decoder_layers: usize,
    /// Every so many fusion layers, one joins image and text instead of looking at the image.
    pub(super) stride: usize,
    pub(super) bert: BertSize,
}

impl MplugConfig {
    /// Reads `config.yaml` of `folder`, and the file that its `bert_config` names.
    ///
    /// # Errors
    /// A file is missing or broken, a number is none, or two do not go together.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.yaml");
        let own = read_yaml(&path)?;
        let name = Path::new(own.name("bert_config", "config_bert.json")?);
        let inside = name.components().all(|part| matches!(part, Component::Normal(_)));
        let named = Some(folder.join(name)).filter(|path| inside && path.is_file());
        // The authors' own files name it with the folder it had there, which may be left behind.
        let bare = || folder.join(name.file_name().unwrap_or_default());
        let bert = Config::read_file(named.unwrap_or_else(bare))?;
        let vision_width = own.count("clip_vision_width", Some(1024))?;
        let config = Self {
            image_res: own.count("image_res", Some(504))?,
            beam_size: own.count("beam_size", Some(5))?,
            min_length: own.count_from(0, "min_length", Some(1))?,
            max_length: own.count("max_length", Some(10))?,
            vocab_size: bert.count("vocab_size", Some(30522))?,
            max_positions: bert.count("max_position_embeddings", Some(512))?,
            path,
            patch: own.count("clip_vision_patch_size", Some(14))?,
            vision_width,
            vision_layers: own.count("clip_vision_layers", Some(24))?,
            segments: bert.count("type_vocab_size", Some(2))?,
            hidden_layers: bert.count("num_hidden_layers", Some(12))?,
            text_layers: bert.count("text_encoder_layers", Some(6))?,
            fusion_layers: bert.count("fusion_layers", Some(6))?,
            decoder_layers: bert.count("text_decode_layers", Some(12))?,
            stride: bert.count("stride_layer", Some(100))?,
            bert: BertSize::from_config(&bert)?,
        };
        if !own.name("clip_name", "ViT-L-14")?.starts_with("ViT-") {
            return Err(
                own.unsupported("clip_name", "only vision transformers, such as ViT-L-14, are")
            );
        }
        if !vision_width.is_multiple_of(VISION_HEAD) {
            let hint = format!("a multiple of {VISION_HEAD} is needed");
            return Err(own.unsupported("clip_vision_width", &hint));
        }
        if own.count("vision_width", Some(1024))? != vision_width {
            let hint = format!("clip_vision_width is {vision_width}, and both are the same width");
            return Err(own.unsupported("vision_width", &hint));
        }
        if !config.image_res.is_multiple_of(config.patch) {
            let hint = format!("a multiple of the patches' {} is needed", config.patch);
            return Err(own.unsupported("image_res", &hint));
        }
        if config.min_length > config.max_length || config.max_length > config.max_positions {
            let hint = format!(
                "answers have at least {} tokens, and there are {} positions",
                config.min_length, config.max_positions
            );
            return Err(own.unsupported("max_length", &hint));
        }
        if bert.count("encoder_width", Some(768))? != config.bert.width {
            let hint = format!("hidden_size is {}, which image states have too", config.bert.width);
            return Err(bert.unsupported("encoder_width", &hint));
        }
        if config.fusion_layers > config.hidden_layers {
            let hint = format!("there are {} in all (num_hidden_layers)", config.hidden_layers);
            return Err(bert.unsupported("fusion_layers", &hint));
        }
        Ok(config)
    }

    /// Every number of the network that decides its answers, by name, for the record of a run.
    pub fn numbers(&self) -> Map<String, Value> {
        let numbers = [
            ("image_res", self.image_res),
            ("patch", self.patch),
            ("vision_width", self.vision_width),
            ("vision_layers", self.vision_layers),
            ("vocab_size", self.vocab_size),
            ("max_positions", self.max_positions),
            ("segments", self.segments),
            ("text_layers", self.text_layers),
            ("hidden_layers", self.hidden_layers),
            ("fusion_layers", self.fusion_layers),
            ("decoder_layers", self.decoder_layers),
            ("stride_layer", self.stride),
            ("width", self.bert.width),
            ("inner", self.bert.inner),
            ("heads", self.bert.heads),
        ];
        let mut values: Map<String, Value> =
            numbers.map(|(name, number)| (name.to_owned(), number.into())).into_iter().collect();
        values.insert("layer_norm_eps".to_owned(), self.bert.eps.into());
        values.insert("activation".to_owned(), format!("{:?}", self.bert.activation).into());
        values
    }

    /// Patches along a side of the picture.
    pub(super) fn grid(&self) -> usize {
        self.image_res / self.patch
    }

    /// Whether the image's states are projected to the width of the text's.
    pub(super) fn projects(&self) -> bool {
        self.bert.width != self.vision_width
    }

    /// Whether fusion layer `number`, counted from the first one used, joins image and text into one
    /// sequence instead of letting the text look at the image.
    pub(super) fn joins(&self, number: usize) -> bool {
        number != 0 && number.is_multiple_of(self.stride)
    }

    /// Whether an image's states depend on the question asked about it.
    pub(super) fn joins_at_all(&self) -> bool {
        self.stride < self.fusion_layers
    }
}

/// The scalars at the top of a YAML file.
fn read_yaml(path: &Path) -> Result<Config, ModelError> {
    let broken = |reason| ModelError::broken(path, FileFault::Network(reason));
    let text =
        std::fs::read_to_string(path).map_err(|source| ModelError::unreadable(path, source))?;
    let documents =
        Yaml::load_from_str(&text).map_err(|error| broken(format!("is not YAML: {error}")))?;
    let Some(Yaml::Mapping(mapping)) = documents.first() else {
        return Err(broken("is not a YAML mapping of names to values".to_owned()));
    };
    let mut values = Map::new();
    for (key, value) in mapping {
        if let (Some(key), Yaml::Value(scalar)) = (key.as_str(), value) {
            values.insert(key.to_owned(), json(scalar));
        }
    }
    Ok(Config::of(path.to_path_buf(), values))
}

fn json(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::from(*value),
        Scalar::Integer(value) => Value::from(*value),
        Scalar::FloatingPoint(value) => Value::from(value.into_inner()),
        Scalar::String(value) => Value::from(value.as_ref()),
    }
}
