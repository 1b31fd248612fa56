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
