//! `--model auto`: the run is that of the model which the checkpoint is of.

use serde_json::Value;

use crate::words::Place;

#[test]
fn a_run_goes_on_under_the_models_own_name() {
    let place = Place::new();
    place.fixture("sd15-tiny", "tiny");
    let line = |model: &str, more: &str| {
        format!(
            "generate --model {model} --weights tiny --benchmark demo --device cpu --limit 1 --images 1 --steps 1 \
             --width 16 --height 16 {more}"
        )
    };
    let output = place.output(&line("auto", ""));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let told = "model auto is sd15: tiny/model_index.json names a StableDiffusionPipeline";
    assert_eq!(stderr.matches(told).count(), 1, "{stderr}");
    let manifest = std::fs::read(place.path("results/sd15/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert!(manifest.to_string().contains("\"model\":\"sd15\""), "{manifest}");
    assert!(!manifest.to_string().contains("auto is"), "{manifest}");
    // Under either name the image is there already.
    for model in ["sd15", "auto"] {
        let output = place.output(&line(model, "--out results/sd15"));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(told.contains("(0 made now"), "{told}");
    }
    // Another model is another run.
    let output = place.output(&line("sd2", "--out results/sd15"));
    assert_ne!(output.status.code(), Some(0));
}
