//! In: a ComfyUI workflow in API format. Out: the inputs that hold prompt, seed, size and so on, where there is one place
//! for each; else a sentence with the candidates. Links (`[node, output]`) are followed from the node of the image.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, ensure};
use serde_json::{Map, Value};

/// One input of one node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Input {
    pub(super) node: String,
    pub(super) name: String,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.name)
    }
}

/// Inputs that hold the text of an encoder: the nodes `CLIPTextEncode`, `...SDXL`, `...SD3`, `...Flux`, `...HiDream`.
const TEXTS: &[&str] =
    &["text", "text_g", "text_l", "clip_l", "clip_g", "t5xxl", "llama", "prompt"];
/// Inputs of nodes that hold one value for others: `PrimitiveString`, `PrimitiveInt`, `String` and the like.
const VALUES: &[&str] =
    &["value", "text", "string", "seed", "noise_seed", "int", "number", "float"];
/// Inputs through which a conditioning passes a node: `FluxGuidance`, `ControlNetApply`, `ConditioningCombine`.
const PASSED_ON: &[&str] = &["conditioning", "conditioning_1", "conditioning_2"];

/// Looks through those nodes of a graph that an image depends on.
pub(super) struct Search<'g> {
    graph: &'g Map<String, Value>,
    nodes: BTreeSet<&'g str>,
}

impl<'g> Search<'g> {
    /// `image` is the node whose image is taken; without it all nodes count.
    pub(super) fn new(graph: &'g Map<String, Value>, image: Option<&str>) -> Self {
        let mut nodes = BTreeSet::new();
        match image {
            None => nodes.extend(graph.keys().map(String::as_str)),
            Some(image) => {
                let mut open: Vec<&str> =
                    graph.get_key_value(image).map(|(id, _)| id.as_str()).into_iter().collect();
                while let Some(id) = open.pop() {
                    if nodes.insert(id) {
                        let inputs = graph[id]["inputs"].as_object();
                        open.extend(
                            inputs.into_iter().flat_map(Map::values).filter_map(|v| link(graph, v)),
                        );
                    }
                }
            }
        }
        Self { graph, nodes }
    }

    fn class(&self, node: &str) -> &'g str {
        self.graph[node]["class_type"].as_str().unwrap_or_default()
    }

    fn value(&self, node: &str, input: &str) -> Option<&'g Value> {
        self.graph.get(node)?["inputs"].get(input)
    }

    /// The node whose image is taken: the only `SaveImage`, else the only `PreviewImage`. `None` where there is
    /// neither, so that the reply must tell.
    pub(super) fn image(&self) -> Result<Option<String>, String> {
        for class in ["SaveImage", "PreviewImage"] {
            let found: Vec<&str> =
                self.nodes.iter().copied().filter(|node| self.class(node) == class).collect();
            match found.as_slice() {
                [] => {}
                [node] => return Ok(Some((*node).to_owned())),
                several => {
                    return Err(format!(
                        "the workflow has {} nodes of the class {class} ({})",
                        several.len(),
                        several.join(", ")
                    ));
                }
            }
        }
        Ok(None)
    }

    /// The text at the end of the links called `side` (`positive` or `negative`) of all samplers and guiders.
    pub(super) fn text(&self, side: &str) -> Result<Vec<Input>, String> {
        let mut found = BTreeSet::new();
        for &node in &self.nodes {
            let mut starts = vec![self.value(node, side)];
            if side == "positive" && self.class(node) == "BasicGuider" {
                starts.push(self.value(node, "conditioning"));
            }
            for start in starts.into_iter().flatten() {
                if let Some(from) = link(self.graph, start) {
                    self.texts_of(from, side, &mut BTreeSet::new(), &mut found);
                }
            }
        }
        let nodes: BTreeSet<&str> = found.iter().map(|input: &Input| input.node.as_str()).collect();
        match nodes.len() {
            0 => Err(format!("no text is found at a link `{side}` of the workflow")),
            1 => Ok(found.into_iter().collect()),
            _ => Err(format!(
                "the workflow has several texts at links `{side}`: {}",
                self.listed(&found)
            )),
        }
    }

    fn texts_of(
        &self,
        node: &'g str,
        side: &str,
        seen: &mut BTreeSet<&'g str>,
        found: &mut BTreeSet<Input>,
    ) {
        if !seen.insert(node) {
            return;
        }
        let mut here = false;
        for name in TEXTS {
            match self.value(node, name) {
                Some(Value::String(_)) => {
                    here = true;
                    found.insert(Input { node: node.to_owned(), name: (*name).to_owned() });
                }
                Some(value) => {
                    if let Some(from) = link(self.graph, value) {
                        here = true;
                        found.extend(self.value_of(from, Value::is_string));
                    }
                }
                None => {}
            }
        }
        if !here {
            for name in PASSED_ON.iter().copied().chain([side]) {
                if let Some(from) = self.value(node, name).and_then(|value| link(self.graph, value))
                {
                    self.texts_of(from, side, seen, found);
                }
            }
        }
    }

    /// The one input of a node that holds a value for others.
    fn value_of(&self, node: &str, right: fn(&Value) -> bool) -> Option<Input> {
        let holds = |name: &&&str| self.value(node, name).is_some_and(right);
        let name = VALUES.iter().find(holds)?;
        Some(Input { node: node.to_owned(), name: (*name).to_owned() })
    }

    /// The only input of one of these names that holds a number, itself or over a link. Samplers that add no noise
    /// (`add_noise` of `KSamplerAdvanced`) have no seed that matters.
    pub(super) fn number(&self, names: &[&str]) -> Result<Vec<Input>, String> {
        let mut found = BTreeSet::new();
        for &node in &self.nodes {
            let silent = self.value(node, "add_noise").is_some_and(|value| *value == "disable");
            for name in names.iter().filter(|name| !(silent && name.ends_with("seed"))) {
                match self.value(node, name) {
                    Some(Value::Number(_)) => {
                        found.insert(Input { node: node.to_owned(), name: (*name).to_owned() });
                    }
                    Some(value) => {
                        let from = link(self.graph, value);
                        found.extend(from.and_then(|from| self.value_of(from, Value::is_number)));
                    }
                    None => {}
                }
            }
        }
        self.only(found, &format!("number called `{}`", names.join("` or `")))
    }

    /// The only `width` or `height` of a node that makes an empty latent.
    pub(super) fn size(&self, name: &str) -> Result<Vec<Input>, String> {
        let mut found = BTreeSet::new();
        for &node in self.nodes.iter().filter(|node| self.makes_latent(node)) {
            match self.value(node, name) {
                Some(Value::Number(_)) => {
                    found.insert(Input { node: node.to_owned(), name: name.to_owned() });
                }
                Some(value) => {
                    let from = link(self.graph, value);
                    found.extend(from.and_then(|from| self.value_of(from, Value::is_number)));
                }
                None => {}
            }
        }
        self.only(found, &format!("`{name}` of a node that makes an empty latent"))
    }

    fn makes_latent(&self, node: &str) -> bool {
        let class = self.class(node);
        class.starts_with("Empty") && class.contains("Latent")
    }

    /// Refuses a workflow that makes several images at a time.
    pub(super) fn check_batch(&self) -> Result<()> {
        for &node in &self.nodes {
            if let Some(size) = self.value(node, "batch_size").and_then(Value::as_u64) {
                ensure!(
                    size == 1 || !self.makes_latent(node),
                    "node {node} of the workflow makes {size} images at a time (`batch_size`): set it to 1, each image is asked for with its own seed"
                );
            }
        }
        Ok(())
    }

    fn only(&self, found: BTreeSet<Input>, what: &str) -> Result<Vec<Input>, String> {
        match found.len() {
            0 => Err(format!("the workflow has no {what}")),
            1 => Ok(found.into_iter().collect()),
            _ => Err(format!("the workflow has more than one {what}: {}", self.listed(&found))),
        }
    }

    fn listed(&self, inputs: &BTreeSet<Input>) -> String {
        let listed: Vec<String> =
            inputs.iter().map(|input| format!("{input} ({})", self.class(&input.node))).collect();
        listed.join(", ")
    }
}

/// The node that a link leads to.
fn link<'g>(graph: &'g Map<String, Value>, value: &Value) -> Option<&'g str> {
    let [node, output] = value.as_array()?.as_slice() else { return None };
    output.as_u64()?;
    graph.get_key_value(node.as_str()?).map(|(id, _)| id.as_str())
}
