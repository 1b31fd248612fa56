//! In: a ComfyUI workflow in API format (`{id: {class_type, inputs}}`) and the user's `ROLE=NODE.INPUT` paths. Out: which
//! inputs of which nodes take prompt, seed and the rest, and the graph with them set. Paths that the user does not give
//! are looked for in the graph by `comfy_search.rs`.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::comfy_search::{Input, Search};

/// What an input of a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Prompt,
    NegativePrompt,
    Seed,
    Width,
    Height,
    Steps,
    Guidance,
}

impl Role {
    const ALL: [(Self, &str); 7] = [
        (Self::Prompt, "prompt"),
        (Self::NegativePrompt, "negative"),
        (Self::Seed, "seed"),
        (Self::Width, "width"),
        (Self::Height, "height"),
        (Self::Steps, "steps"),
        (Self::Guidance, "guidance"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(role, _)| *role == self).map_or("", |(_, name)| name)
    }
}

/// A workflow, with the inputs that this program sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    graph: Map<String, Value>,
    /// Inputs by role; those that the user named, and those found.
    inputs: Vec<(Role, Vec<Input>)>,
    /// Why a role has no input: said when it is needed.
    unresolved: Vec<(Role, String)>,
    /// The node whose image is taken; `None` where the graph does not tell.
    image: Option<String>,
}

impl Workflow {
    /// Reads a workflow as `Export (API)` of ComfyUI's menu saves it. `paths` are `ROLE=NODE.INPUT`, where a role that
    /// stands twice is set at both places, and `image=NODE`; roles are `prompt`, `negative`, `seed`, `width`, `height`,
    /// `steps` and `guidance`.
    ///
    /// # Errors
    /// It is another format, a path names no input, or the place of prompt, seed or image is missing or not the only one.
    pub fn new(graph: &Value, paths: &[String]) -> Result<Self> {
        let graph = read_graph(graph)?;
        let (given, image) = read_paths(&graph, paths)?;
        let image = match image {
            Some(node) => Some(node),
            None => Search::new(&graph, None).image().map_err(advise("image=NODE"))?,
        };
        let search = Search::new(&graph, image.as_deref());
        let mut workflow =
            Self { graph: Map::new(), inputs: given, unresolved: Vec::new(), image: image.clone() };
        for (role, name) in Role::ALL {
            if workflow.has(role) {
                continue;
            }
            let found = match role {
                Role::Prompt => search.text("positive"),
                Role::NegativePrompt => search.text("negative"),
                Role::Seed => search.number(&["seed", "noise_seed"]),
                Role::Width => search.size("width"),
                Role::Height => search.size("height"),
                Role::Steps => search.number(&["steps"]),
                Role::Guidance => search.number(&["cfg", "guidance"]),
            };
            match found {
                Ok(inputs) => workflow.inputs.push((role, inputs)),
                Err(reason) => workflow
                    .unresolved
                    .push((role, format!("{reason}; give --comfy-node {name}=NODE.INPUT"))),
            }
        }
        // One text for both is a negative prompt that cannot be set: the prompt would be overwritten.
        if let Some(prompt) = workflow.at(Role::Prompt).map(<[Input]>::to_vec) {
            workflow.inputs.retain(|(role, inputs)| {
                *role != Role::NegativePrompt || inputs.iter().all(|input| !prompt.contains(input))
            });
            if !workflow.has(Role::NegativePrompt) {
                let reason = "the workflow has no negative prompt of its own; give --comfy-node negative=NODE.INPUT";
                workflow.unresolved.retain(|(role, _)| *role != Role::NegativePrompt);
                workflow.unresolved.push((Role::NegativePrompt, reason.to_owned()));
            }
        }
        search.check_batch()?;
        workflow.graph = graph;
        workflow.need(Role::Prompt)?;
        workflow.need(Role::Seed)?;
        Ok(workflow)
    }

    /// The inputs that are set, as `role=NODE.INPUT`, and `image=NODE`: for the record and for people.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self
            .inputs
            .iter()
            .flat_map(|(role, inputs)| {
                inputs.iter().map(|input| format!("{}={input}", role.name()))
            })
            .collect();
        paths.extend(self.image.iter().map(|node| format!("image={node}")));
        paths
    }

    /// The graph as it was given.
    pub fn graph(&self) -> &Map<String, Value> {
        &self.graph
    }

    /// The node whose image is taken.
    pub(super) fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    fn at(&self, role: Role) -> Option<&[Input]> {
        self.inputs.iter().find(|(of, _)| *of == role).map(|(_, inputs)| inputs.as_slice())
    }

    fn has(&self, role: Role) -> bool {
        self.at(role).is_some()
    }

    /// Refuses a role that has no input, with the candidates.
    pub(super) fn need(&self, role: Role) -> Result<()> {
        match self.unresolved.iter().find(|(of, _)| *of == role) {
            Some((_, reason)) => bail!("{reason}"),
            None => Ok(()),
        }
    }

    /// Sets `value` at every input of `role` in `graph`, a copy of [`Self::graph`].
    pub(super) fn set(
        &self,
        graph: &mut Map<String, Value>,
        role: Role,
        value: &Value,
    ) -> Result<()> {
        self.need(role)?;
        for input in self.at(role).unwrap_or_default() {
            let place = graph
                .get_mut(&input.node)
                .and_then(|node| node["inputs"].as_object_mut())
                .context("the workflow has lost a node")?;
            place.insert(input.name.clone(), value.clone());
        }
        Ok(())
    }
}

/// The graph, where it has the API format.
fn read_graph(value: &Value) -> Result<Map<String, Value>> {
    let whole = value.as_object().context("the workflow is no JSON object")?;
    ensure!(
        !(whole.get("nodes").is_some_and(Value::is_array)),
        "the workflow is saved as the editor opens it: save it with `Export (API)` of ComfyUI's menu"
    );
    // A request's body as it is sent holds the graph in `prompt`.
    let graph = match whole.get("prompt").and_then(Value::as_object) {
        Some(inner) if !whole.contains_key("class_type") => inner,
        _ => whole,
    };
    ensure!(!graph.is_empty(), "the workflow has no nodes");
    for (id, node) in graph {
        ensure!(
            node["class_type"].is_string() && node["inputs"].is_object(),
            "node {id} of the workflow has no `class_type` or no `inputs`: save it with `Export (API)` of ComfyUI's menu"
        );
    }
    Ok(graph.clone())
}

type Given = (Vec<(Role, Vec<Input>)>, Option<String>);

/// The user's paths; each names an input that is there and holds a value, no link.
fn read_paths(graph: &Map<String, Value>, paths: &[String]) -> Result<Given> {
    let (mut given, mut image): Given = (Vec::new(), None);
    for path in paths {
        let (name, place) =
            path.split_once('=').with_context(|| format!("`{path}` is no ROLE=NODE.INPUT"))?;
        if name == "image" {
            ensure!(
                graph.contains_key(place),
                "the workflow has no node `{place}`; it has {}",
                nodes(graph)
            );
            ensure!(image.is_none(), "`image=` stands twice");
            image = Some(place.to_owned());
            continue;
        }
        let role = Role::ALL.into_iter().find(|(_, known)| *known == name).map(|(role, _)| role);
        let role = role.with_context(|| {
            let known: Vec<_> = Role::ALL.iter().map(|(_, name)| *name).collect();
            format!("`{name}` of `{path}` is none of {} and image", known.join(", "))
        })?;
        let (node, input) =
            place.split_once('.').with_context(|| format!("`{path}` is no ROLE=NODE.INPUT"))?;
        let inputs = graph.get(node).and_then(|node| node["inputs"].as_object());
        let inputs = inputs.with_context(|| {
            format!("the workflow has no node `{node}`; it has {}", nodes(graph))
        })?;
        let value = inputs.get(input).with_context(|| {
            let names: Vec<_> = inputs.keys().map(String::as_str).collect();
            format!(
                "node {node} of the workflow has no input `{input}`; it has {}",
                names.join(", ")
            )
        })?;
        ensure!(
            !value.is_array(),
            "input `{input}` of node {node} comes from another node: name that node's input"
        );
        let input = Input { node: node.to_owned(), name: input.to_owned() };
        match given.iter_mut().find(|(of, _)| *of == role) {
            Some((_, inputs)) => inputs.push(input),
            None => given.push((role, vec![input])),
        }
    }
    Ok((given, image))
}

/// The nodes of a graph, for a sentence.
fn nodes(graph: &Map<String, Value>) -> String {
    const SHOWN: usize = 12;
    let mut named: Vec<String> = graph
        .iter()
        .take(SHOWN)
        .map(|(id, node)| format!("{id} ({})", node["class_type"].as_str().unwrap_or("?")))
        .collect();
    if graph.len() > SHOWN {
        named.push(format!("{} more", graph.len() - SHOWN));
    }
    named.join(", ")
}

fn advise(form: &'static str) -> impl Fn(String) -> anyhow::Error {
    move |reason| anyhow::anyhow!("{reason}; give --comfy-node {form}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// ComfyUI's default workflow.
    fn default_graph() -> Value {
        json!({
            "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "cfg": 8, "sampler_name": "euler",
                "scheduler": "normal", "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
                "latent_image": ["5", 0]}},
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a bottle", "clip": ["4", 1]}},
            "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text", "clip": ["4", 1]}},
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
            "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}}
        })
    }

    /// The shape of FLUX workflows: a guider in place of a link `positive`, and noise as a node of its own.
    fn flux_graph() -> Value {
        json!({
            "5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": ["34", 0], "height": 1024, "batch_size": 1}},
            "6": {"class_type": "CLIPTextEncodeFlux", "inputs": {"clip_l": "x", "t5xxl": "y", "guidance": ["40", 0], "clip": ["11", 0]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0]}},
            "13": {"class_type": "SamplerCustomAdvanced", "inputs": {"noise": ["25", 0], "guider": ["22", 0],
                "sigmas": ["17", 0], "latent_image": ["5", 0]}},
            "17": {"class_type": "BasicScheduler", "inputs": {"steps": 20, "denoise": 1}},
            "22": {"class_type": "BasicGuider", "inputs": {"conditioning": ["26", 0]}},
            "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 5}},
            "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
            "34": {"class_type": "PrimitiveInt", "inputs": {"value": 1024}}
        })
    }

    fn read(graph: &Value, paths: &[&str]) -> Result<Workflow, String> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        Workflow::new(graph, &paths).map_err(|error| error.to_string())
    }

    #[test]
    fn places_are_found_where_there_is_one_of_each() {
        assert_eq!(
            read(&default_graph(), &[]).unwrap().paths(),
            [
                "prompt=6.text",
                "negative=7.text",
                "seed=3.seed",
                "width=5.width",
                "height=5.height",
                "steps=3.steps",
                "guidance=3.cfg",
                "image=9"
            ]
        );
        // Both texts of one encoder are the prompt; there is no negative one; a width may come over a link.
        assert_eq!(
            read(&flux_graph(), &[]).unwrap().paths(),
            [
                "prompt=6.clip_l",
                "prompt=6.t5xxl",
                "seed=25.noise_seed",
                "width=34.value",
                "height=5.height",
                "steps=17.steps",
                "guidance=26.guidance",
                "image=9"
            ]
        );
    }

    #[test]
    fn only_what_the_image_depends_on_counts() {
        let mut graph = default_graph();
        graph["20"] =
            json!({"class_type": "KSampler", "inputs": {"seed": 4, "positive": ["7", 0]}});
        assert_eq!(read(&graph, &[]).unwrap().paths()[2], "seed=3.seed");
        graph["21"] = json!({"class_type": "SaveImage", "inputs": {"images": ["20", 0]}});
        let error = read(&graph, &[]).unwrap_err();
        assert!(error.contains("SaveImage (21, 9)") && error.contains("image=NODE"), "{error}");
        assert_eq!(read(&graph, &["image=9"]).unwrap().paths()[0], "prompt=6.text");
        assert_eq!(read(&graph, &["image=21"]).unwrap().paths()[0], "prompt=7.text");
    }

    #[test]
    fn several_candidates_are_named() {
        let mut graph = default_graph();
        // A refiner: another sampler with prompts of its own, which adds no noise.
        graph["10"] = json!({"class_type": "KSamplerAdvanced", "inputs": {"add_noise": "disable", "noise_seed": 0,
            "steps": 20, "positive": ["15", 0], "negative": ["7", 0], "latent_image": ["3", 0]}});
        graph["15"] = json!({"class_type": "CLIPTextEncode", "inputs": {"text": "a bottle"}});
        graph["8"]["inputs"]["samples"] = json!(["10", 0]);
        let error = read(&graph, &[]).unwrap_err();
        assert!(
            error.contains("15.text (CLIPTextEncode), 6.text (CLIPTextEncode); give --comfy-node prompt=NODE.INPUT"),
            "{error}"
        );
        let workflow = read(&graph, &["prompt=6.text", "prompt=15.text"]).unwrap();
        assert_eq!(workflow.paths()[..2], ["prompt=6.text", "prompt=15.text"]);
        assert!(workflow.paths().contains(&"seed=3.seed".to_owned()));
        // Steps stand in both samplers: said when they are asked for.
        let error = workflow.need(Role::Steps).unwrap_err().to_string();
        assert!(error.contains("10.steps (KSamplerAdvanced), 3.steps (KSampler)"), "{error}");
        graph["10"]["inputs"]["add_noise"] = json!("enable");
        let error = read(&graph, &["prompt=6.text"]).unwrap_err();
        assert!(error.contains("10.noise_seed (KSamplerAdvanced), 3.seed (KSampler)"), "{error}");
    }

    #[test]
    fn a_missing_place_is_said() {
        let mut graph = default_graph();
        graph["3"]["inputs"].as_object_mut().unwrap().remove("positive");
        assert!(read(&graph, &[]).unwrap_err().contains("prompt=NODE.INPUT"));
        graph["3"]["inputs"].as_object_mut().unwrap().remove("seed");
        assert!(read(&graph, &["prompt=6.text"]).unwrap_err().contains("seed=NODE.INPUT"));
        // The negative prompt is made of the prompt: `ConditioningZeroOut`.
        let mut graph = default_graph();
        graph["7"] =
            json!({"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}});
        let workflow = read(&graph, &[]).unwrap();
        assert!(
            workflow
                .need(Role::NegativePrompt)
                .unwrap_err()
                .to_string()
                .contains("no negative prompt of its own")
        );
        let mut graph = default_graph();
        graph["5"]["inputs"]["batch_size"] = json!(4);
        assert!(read(&graph, &[]).unwrap_err().contains("4 images at a time"));
    }

    #[test]
    fn a_path_must_lead_to_a_value() {
        let graph = default_graph();
        for (path, words) in [
            ("prompt", "no ROLE=NODE.INPUT"),
            ("prompt=6", "no ROLE=NODE.INPUT"),
            ("seeds=3.seed", "none of prompt, negative, seed"),
            ("prompt=66.text", "no node `66`; it has 3 (KSampler), 4 (CheckpointLoaderSimple)"),
            ("prompt=6.txt", "no input `txt`; it has clip, text"),
            ("prompt=6.clip", "comes from another node"),
            ("image=99", "no node `99`"),
        ] {
            let error = read(&graph, &[path]).unwrap_err();
            assert!(error.contains(words), "{path}: {error}");
        }
        assert!(read(&graph, &["image=9", "image=9"]).is_err());
    }

    #[test]
    fn other_formats_are_told() {
        for (graph, words) in [
            (json!({"nodes": [], "links": []}), "Export (API)"),
            (json!({"3": {"inputs": {}}}), "no `class_type`"),
            (json!({}), "no nodes"),
            (json!([]), "no JSON object"),
        ] {
            let error = read(&graph, &[]).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        // A whole request as it is sent.
        assert_eq!(read(&json!({"prompt": default_graph()}), &[]), read(&default_graph(), &[]));
    }

    #[test]
    fn links_in_a_circle_end() {
        let mut graph = default_graph();
        graph["6"] = json!({"class_type": "ConditioningCombine",
            "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["12", 0]}});
        graph["12"] = json!({"class_type": "CLIPTextEncode", "inputs": {"text": ["13", 0]}});
        graph["13"] = json!({"class_type": "PrimitiveString", "inputs": {"value": "x"}});
        assert_eq!(read(&graph, &[]).unwrap().paths()[0], "prompt=13.value");
    }
}
