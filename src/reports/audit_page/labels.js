"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const questions = data.questions.map(([image, question, text]) => ({ image, question, text }));
const LABELS = ["yes", "no", "cannot_tell"];
const TAKEN_BACK = "withdrawn";
const NAME = new RegExp("^[\\p{Alphabetic}\\p{N}][\\p{Alphabetic}\\p{N}_.-]{0," + (data.longest_name - 1) + "}$", "u");

// Some browsers give a page that is a file no place to keep anything, or throw.
const storage = (() => {
  try {
    localStorage.setItem("dpg-bench probe", "1");
    localStorage.removeItem("dpg-bench probe");
    return localStorage;
  } catch {
    return null;
  }
})();
const PREFIX = "dpg-bench audit " + data.sample + " ";

// Question -> what was said of it last, and when; what to undo; what the server has not; changes since the last save.
const emptyState = () => ({ labels: {}, undo: [], unsent: [], changes: 0, at: 0 });

// What is kept of an annotator; a state that this page did not write counts as none.
function kept(name) {
  const state = emptyState();
  try {
    const found = JSON.parse(storage?.getItem(PREFIX + name) ?? "{}");
    for (const [place, said] of Object.entries(found.labels ?? {})) {
      if (questions[place] && isSaid(said)) state.labels[place] = said;
    }
    const isPlace = (place) => Boolean(state.labels[place]);
    state.undo = (found.undo ?? []).filter(([place]) => Boolean(questions[place]));
    state.unsent = (found.unsent ?? []).filter(isPlace);
    state.changes = Number(found.changes) || 0;
    state.at = questions[found.at] ? found.at : 0;
  } catch {
    return emptyState();
  }
  return state;
}

const isSaid = (said) => Array.isArray(said) && (LABELS.includes(said[0]) || said[0] === TAKEN_BACK) && !Number.isNaN(Date.parse(said[1]));

function keep(name, state) {
  try {
    storage?.setItem(PREFIX + name, JSON.stringify(state));
    return storage !== null;
  } catch {
    return false;
  }
}

function keptNames() {
  const keys = storage ? Array.from({ length: storage.length }, (_, place) => storage.key(place)) : [];
  return keys.filter((key) => key.startsWith(PREFIX)).map((key) => key.slice(PREFIX.length)).filter((name) => NAME.test(name)).sort();
}

const labelAt = (state, place) => {
  const label = state.labels[place]?.[0];
  return label === TAKEN_BACK ? undefined : label;
};
const answered = (state) => questions.filter((_, place) => labelAt(state, place)).length;

// A line of a file of labels.
function record(name, place, [label, time]) {
  const { image, question, text } = questions[place];
  const { item, image: number, pixels_sha256 } = data.images[image];
  return { item, image: number, question, text, pixels_sha256, annotator: name, time, label };
}

// The file of an annotator: a header and a line for each label.
function fileOf(name, state) {
  const header = { format_version: data.format_version, kind: "audit labels", sample: data.sample };
  const places = questions.map((_, place) => place).filter((place) => labelAt(state, place));
  const lines = [header, ...places.map((place) => record(name, place, state.labels[place]))];
  return lines.map((line) => JSON.stringify(line) + "\n").join("");
}

const placeOf = new Map(questions.map(({ image, question }, place) =>
  [JSON.stringify([data.images[image].item, data.images[image].image, question]), place]));

// The labels in the text of a file: by annotator and question. Throws a sentence.
function labelsIn(text) {
  const lines = text.split("\n");
  // What comes behind the last line's end is what a kill leaves.
  lines.pop();
  const parsed = (line, number) => {
    try {
      return JSON.parse(line);
    } catch {
      throw new Error(number === 1 ? "It is no file of labels." : "Line " + number + " is no label.");
    }
  };
  if (lines.length === 0) throw new Error("It is no file of labels.");
  const header = parsed(lines[0], 1);
  if (header?.kind !== "audit labels") throw new Error("It is no file of labels.");
  if (header.format_version?.split(".")[0] !== data.format_version.split(".")[0]) {
    throw new Error("It has format version " + header.format_version + ", this page reads " + data.format_version + ".");
  }
  if (header.sample !== data.sample) throw new Error("It has labels of another audit.");
  const found = new Map();
  lines.slice(1).forEach((line, index) => {
    const number = index + 2;
    const given = parsed(line, number);
    const place = placeOf.get(JSON.stringify([given?.item, given?.image, given?.question]));
    const asked = place === undefined ? null : record(given.annotator, place, [given.label, given.time]);
    if (!asked || asked.text !== given.text || asked.pixels_sha256 !== given.pixels_sha256) {
      throw new Error("Line " + number + " is about a question or an image that this page does not have.");
    }
    if (typeof given.annotator !== "string" || !NAME.test(given.annotator) || !isSaid([given.label, given.time])) {
      throw new Error("Line " + number + " is no label.");
    }
    if (!found.has(given.annotator)) found.set(given.annotator, new Map());
    found.get(given.annotator).set(place, [given.label, given.time]);
  });
  return found;
}

// Takes in labels that were given later than those that are there; returns how many.
function takeIn(state, labels, fromServer) {
  let taken = 0;
  for (const [place, said] of labels) {
    const there = state.labels[place];
    if (there && Date.parse(there[1]) >= Date.parse(said[1])) continue;
    state.labels[place] = said;
    state.unsent = state.unsent.filter((other) => other !== place);
    if (data.served && !fromServer) state.unsent.push(place);
    taken += 1;
  }
  if (taken > 0) state.undo = [];
  return taken;
}
