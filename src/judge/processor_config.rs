//! In: the folder of a judge as transformers saved it. Out: the settings of its picture processor. transformers 5
//! keeps them in `processor_config.json`, earlier versions in `preprocessor_config.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where transformers 5 keeps the settings of everything that prepares inputs.
pub(crate) const PROCESSOR_CONFIG: &str = "processor_config.json";
/// Where earlier versions kept those of pictures.
pub(crate) const PREPROCESSOR_CONFIG: &str = "preprocessor_config.json";

/// The settings of the picture processor, and the file that holds them. As in transformers, those in
/// [`PROCESSOR_CONFIG`] go before [`PREPROCESSOR_CONFIG`].
///
/// # Errors
/// Neither file has them, or one is no JSON object.
pub(crate) fn image_processor_config(folder: &Path) -> Result<(PathBuf, Value)> {
    let (all, pictures) = (folder.join(PROCESSOR_CONFIG), folder.join(PREPROCESSOR_CONFIG));
    if all.is_file() {
        let mut settings = object(&all)?;
        if let Some(settings) = settings.get_mut("image_processor").map(Value::take) {
            ensure!(settings.is_object(), "{}: image_processor is no JSON object", all.display());
            return Ok((all, settings));
        }
    }
    ensure!(
        pictures.is_file(),
        "{} has neither {PREPROCESSOR_CONFIG} nor {PROCESSOR_CONFIG} with an image_processor",
        folder.display()
    );
    let settings = object(&pictures)?;
    Ok((pictures, settings))
}

fn object(path: &Path) -> Result<Value> {
    let text =
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let value: Value =
        serde_json::from_slice(&text).with_context(|| format!("{}: is no JSON", path.display()))?;
    ensure!(value.is_object(), "{}: is no JSON object", path.display());
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_transformers_5_goes_first_where_it_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let found = || {
            image_processor_config(folder.path()).map(|(path, value)| (path, value["size"].clone()))
        };
        let error = || found().unwrap_err().to_string();
        assert!(error().contains("neither preprocessor_config.json nor processor_config.json"));
        write(PROCESSOR_CONFIG, r#"{"processor_class": "BlipProcessor"}"#);
        assert!(error().contains("with an image_processor"));
        write(PREPROCESSOR_CONFIG, r#"{"size": 1}"#);
        assert_eq!(found().unwrap(), (folder.path().join(PREPROCESSOR_CONFIG), 1.into()));
        write(PROCESSOR_CONFIG, r#"{"image_processor": {"size": 2}}"#);
        assert_eq!(found().unwrap(), (folder.path().join(PROCESSOR_CONFIG), 2.into()));
        write(PROCESSOR_CONFIG, r#"{"image_processor": 2}"#);
        assert!(error().contains("image_processor is no JSON object"));
        write(PROCESSOR_CONFIG, "[]");
        assert!(error().contains("is no JSON object"));
    }
}
