// In: one item of the data. Out: its elements: prompt, images, question graph, answers. All texts are put
// in as text, never as markup.

const MARKS = {
  y: ["✓", "yes"], n: ["✕", "no"], p: ["↑", "zeroed by a parent"], u: ["?", "neither yes nor no"],
  f: ["!", "the judge failed"], m: ["–", "no answer, its own or a parent's"], s: ["·", "not part of the protocol"],
};
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const percent = (score) => (score === null ? "–" : score.toFixed(1));
const swatch = (run) => make("span", { class: "swatch back-run" + (run % 7), "aria-hidden": "true" });

function itemView(item, base, run) {
  const heading = make("h3", { dir: "auto" }, item.id);
  const view = make("article", { class: "item" }, heading);
  view.append(make("p", { class: "prompt", dir: "auto" }, item.prompt));
  const [a, b] = [item.runs[base], item.runs[run]];
  if (base !== run && a && b && a.score !== null && b.score !== null) {
    const swing = b.score - a.score;
    const size = Math.abs(swing).toFixed(1);
    const text = (swing < 0 && size !== "0.0" ? "−" : "+") + size + " points from " +
      data.runs[base].name + " to " + data.runs[run].name;
    view.append(make("p", { class: "soft" }, text));
  }
  const runs = make("div", { class: "runs" });
  item.runs.forEach((own, number) => { if (own) runs.append(make("div", {}, ...runView(item, own, number))); });
  view.append(runs, detailsView(item));
  return view;
}

function runView(item, own, number) {
  const name = data.runs[number].name;
  const heading = make("h4", {}, swatch(number), name + ": " + (own.score === null ? "no score" : percent(own.score)));
  const pictures = make("div", { class: "pictures" });
  own.images.forEach((image, place) => {
    const what = "image " + place;
    let picture;
    if (image.picture) {
      picture = make("img", { loading: "lazy", decoding: "async", src: image.picture, alt: name + ", " + what + " of " + item.id });
      const folder = data.runs[number].pictures;
      if (folder) {
        const address = folder + encodeURIComponent(item.id) + "/" + place + ".png";
        const title = "Full image: " + picture.alt;
        picture = make("a", { class: "full", href: address, target: "_blank", rel: "noopener", "aria-label": title }, picture);
      }
    } else {
      picture = make("span", { class: "absent" }, "no image");
    }
    const score = image.score === null ? "no score" : percent(image.score);
    pictures.append(make("figure", {}, picture, make("figcaption", {}, what + ": " + score)));
  });
  const parts = [heading];
  if (own.why) parts.push(make("p", { class: "soft" }, "Not scored: " + own.why));
  parts.push(pictures);
  return parts;
}

function detailsView(item) {
  const details = make("details", {}, make("summary", {}, "Question graph and all answers (" + item.questions.length + " questions)"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    details.append(make("h4", {}, "Question graph"), graphKey(item), graphView(item));
    item.runs.forEach((own, number) => {
      if (own) data.runs[number].judges.forEach((judge, place) => details.append(answersView(item, own, number, judge, place)));
    });
  });
  return details;
}

function answersView(item, own, number, judge, place) {
  const head = make("tr", {});
  const headings = ["No.", "Question", "Category", "Depends on", ...own.images.map((_, image) => "Image " + image)];
  for (const words of headings) head.append(make("th", { scope: "col" }, words));
  const body = make("tbody", {});
  item.questions.forEach(([id, text, category, parents], question) => {
    const row = make("tr", {}, make("th", { scope: "row" }, String(id)), make("td", { class: "question", dir: "auto" }, text),
      make("td", {}, data.categories[category]), make("td", {}, parents.map((parent) => item.questions[parent][0]).join(", ") || "–"));
    for (const image of own.images) row.append(answerCell(item, image.judges[place], question, parents));
    body.append(row);
  });
  const caption = make("caption", {}, make("span", {}, swatch(number), data.runs[number].name + ", judged by " + judge));
  const table = make("table", { class: "answers" }, caption, make("thead", {}, head), body);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Answers about " + data.runs[number].name + " by " + judge }, table);
}

function answerCell(item, answers, question, parents) {
  const verdict = answers.ruled[question];
  const [sign, meaning] = MARKS[verdict];
  const cell = make("td", {}, make("span", { class: "mark is-" + verdict, role: "img", "aria-label": meaning, title: meaning }, sign));
  const said = answers.texts[question];
  if (said >= 0) cell.append(" ", make("span", { dir: "auto" }, data.texts[said]));
  const p = answers.p && answers.p.length ? answers.p[question] : null;
  if (p !== null) cell.append(make("span", { class: "own" }, "P(yes) " + p.toFixed(3)));
  if (verdict === "p") {
    const failed = parents.filter((parent) => "npu".includes(answers.ruled[parent])).map((parent) => item.questions[parent][0]);
    cell.append(make("span", { class: "own" }, "zeroed by " + failed.join(", ")));
  }
  const words = answers.words && answers.words.length ? answers.words[question] : -1;
  if (words >= 0) cell.append(make("span", { class: "own", dir: "auto" }, data.texts[words]));
  return cell;
}

// Levels from left to right: a question stands right of all that it depends on.
function levelsOf(questions) {
  const levels = questions.map(() => -1);
  const level = (place) => {
    if (levels[place] < 0) levels[place] = questions[place][3].reduce((deepest, parent) => Math.max(deepest, level(parent) + 1), 0);
    return levels[place];
  };
  questions.forEach((_, place) => level(place));
  return levels;
}

const NODE = 216, GAP = 64, LINE = 16, PAD = 9, MARK = 17;
// A level that would be taller stands in several columns, so far apart.
const TALL = 1800, BESIDE = 16;
const measure = document.createElement("canvas").getContext("2d");

// Breaks a text into lines that fit a node; a word that is too long is broken anywhere.
function linesOf(text) {
  const fits = (line) => measure.measureText(line).width <= NODE - 2 * PAD;
  const lines = [];
  let line = "";
  for (let word of text.split(/\s+/u)) {
    if (line && fits(line + " " + word)) { line += " " + word; continue; }
    if (line) lines.push(line);
    while (!fits(word)) {
      const letters = Array.from(word);
      let count = 1;
      while (count < letters.length && fits(letters.slice(0, count + 1).join(""))) count += 1;
      lines.push(letters.slice(0, count).join(""));
      word = letters.slice(count).join("");
      if (!word) break;
    }
    line = word;
  }
  if (line) lines.push(line);
  if (lines.length <= 7) return lines;
  const last = Array.from(lines[6]);
  while (!fits(last.join("") + "…")) last.pop();
  return [...lines.slice(0, 6), last.join("") + "…"];
}

// What the boxes of a graph mean, and which mark is which run.
function graphKey(item) {
  const kinds = [["all", "all answers are yes"], ["some", "some are"], ["none", "none is"], ["unknown", "no answer that counts"]];
  const key = make("p", { class: "legend soft" }, ...kinds.map(([kind, words]) => make("span", {}, make("span", { class: "box " + kind }), words)));
  item.runs.forEach((own, number) => { if (own) key.append(make("span", {}, swatch(number), data.runs[number].name)); });
  return key;
}

// The shape of a run, as in the charts.
function runMark(x, y, size, number) {
  const kind = number % 7, attributes = { class: "fill-run" + kind };
  if (kind === 0) return draw("circle", { cx: x, cy: y, r: size, ...attributes });
  const regular = (count, long, turn) => Array.from({ length: count }, (_, corner) => {
    const angle = 2 * Math.PI * (corner / count + turn);
    return [x + long * size * Math.cos(angle), y + long * size * Math.sin(angle)];
  });
  const bars = (turn) => [0, 1, 2, 3].flatMap((quarter) => [[0.45, -0.45], [1.35, -0.45], [1.35, 0.45]].map(([a, b]) => {
    const angle = 2 * Math.PI * (quarter / 4 + turn);
    return [x + size * (a * Math.cos(angle) - b * Math.sin(angle)), y + size * (a * Math.sin(angle) + b * Math.cos(angle))];
  }));
  const corners = [null, () => regular(4, 1.25, 0.125), () => regular(3, 1.4, -0.25), () => regular(4, 1.35, 0),
    () => regular(3, 1.4, 0.25), () => bars(0), () => bars(0.125)][kind]();
  return draw("polygon", { points: corners.map((corner) => corner.map((part) => part.toFixed(2)).join(",")).join(" "), ...attributes });
}

const middleOf = (node) => node.y + node.height / 2;

// The line from a parent to a child: straight through the columns between them where no box stands, never behind one.
function edge(from, to, nodes) {
  let [x, y] = [from.x + NODE, middleOf(from)];
  const end = middleOf(to);
  let path = "M" + x + " " + y;
  const bendTo = (nextX, nextY) => {
    const bend = (x + nextX) / 2;
    path += " C" + bend + " " + y + " " + bend + " " + nextY + " " + nextX + " " + nextY;
    [x, y] = [nextX, nextY];
  };
  const between = [...new Set(nodes.map((node) => node.x))].filter((column) => column > from.x && column < to.x);
  for (const column of between.sort((a, b) => a - b)) {
    const wanted = y + (end - y) * (column + NODE / 2 - x) / (to.x - x);
    const boxes = nodes.filter((node) => node.x === column);
    const isFree = (height) => height > 0 && boxes.every((box) => height < box.y - 4 || height > box.y + box.height + 4);
    const places = [wanted, ...boxes.flatMap((box) => [box.y - 6, box.y + box.height + 6])].filter(isFree);
    places.sort((a, b) => Math.abs(a - wanted) - Math.abs(b - wanted));
    bendTo(column, places[0]);
    x += NODE;
    path += " H" + x;
  }
  bendTo(to.x, end);
  return path;
}

function graphView(item) {
  measure.font = "13px " + getComputedStyle(document.body).fontFamily;
  const runs = item.runs.map((own, number) => [own, number]).filter(([own]) => own && own.images.some((image) => image.judges.length));
  const levels = levelsOf(item.questions);
  const nodes = item.questions.map(([id, text, category], place) => {
    const lines = linesOf(text);
    return { place, id, lines, category: data.categories[category], level: levels[place], height: 2 * PAD + LINE * (lines.length + 1) + runs.length * (MARK + 5) + 2 };
  });
  const depth = Math.max(0, ...levels);
  const isParent = new Set(item.questions.flatMap((question) => question[3]));
  let height = 0, left = 2;
  for (let level = 0; level <= depth; level += 1) {
    const column = nodes.filter((node) => node.level === level);
    const total = column.reduce((sum, node) => sum + node.height + 12, 0);
    const count = Math.ceil(total / TALL);
    // Beside their parents, which stand already.
    const wanted = (node) => {
      const parents = item.questions[node.place][3];
      return parents.length ? parents.reduce((sum, parent) => sum + middleOf(nodes[parent]), 0) / parents.length : node.place;
    };
    // Of several columns, those that others depend on stand next to them.
    const late = (node) => count > 1 && isParent.has(node.place);
    column.sort((a, b) => late(a) - late(b) || wanted(a) - wanted(b) || a.place - b.place);
    let y = 2, part = 0;
    for (const node of column) {
      if (part < count - 1 && y > total / count) { y = 2; part += 1; }
      node.x = left + part * (NODE + BESIDE);
      node.y = level && count === 1 ? Math.max(y, wanted(node) - node.height / 2) : y;
      y = node.y + node.height + 12;
      height = Math.max(height, y);
    }
    left += (part + 1) * (NODE + BESIDE) - BESIDE + GAP;
  }
  const width = left - GAP + 2;
  const svg = draw("svg", { width, height, viewBox: "0 0 " + width + " " + height, role: "img",
    "aria-label": "Graph of " + item.questions.length + " questions in " + (depth + 1) + " levels; the tables below tell the same" });
  for (const node of nodes) {
    for (const parent of item.questions[node.place][3]) svg.append(draw("path", { d: edge(nodes[parent], node, nodes) }));
  }
  for (const node of nodes) svg.append(nodeView(node, runs));
  return make("div", { class: "graph", tabindex: "0", role: "region", "aria-label": "Question graph" }, svg);
}

function nodeView(node, runs) {
  const verdicts = runs.flatMap(([own]) => own.images.map((image) => image.judges[0].ruled[node.place]));
  const counted = verdicts.filter((verdict) => "ynpu".includes(verdict));
  const yes = counted.filter((verdict) => verdict === "y").length;
  const kind = counted.length === 0 ? "unknown" : yes === counted.length ? "all" : yes === 0 ? "none" : "some";
  const group = draw("g", {});
  group.append(draw("rect", { x: node.x, y: node.y, width: NODE, height: node.height, rx: 6, class: "node " + kind }));
  let y = node.y + PAD + 11;
  const head = node.id + " · " + node.category;
  const cut = linesOf(head);
  group.append(draw("text", { x: node.x + PAD, y, "font-size": 12, class: "small" }, cut[0] + (cut.length > 1 ? "…" : "")));
  for (const line of node.lines) {
    y += LINE;
    group.append(draw("text", { x: node.x + PAD, y, "font-size": 13 }, line));
  }
  for (const [own, number] of runs) {
    y += 6;
    group.append(runMark(node.x + PAD + 3, y + MARK / 2, 3.6, number));
    own.images.forEach((image, place) => {
      const verdict = image.judges[0].ruled[node.place];
      const x = node.x + PAD + 12 + place * (MARK + 5);
      if (x + MARK > node.x + NODE - PAD) return;
      group.append(draw("rect", { x, y, width: MARK, height: MARK, rx: 3, class: "is-" + verdict }));
      group.append(draw("text", { x: x + MARK / 2, y: y + 13, "font-size": 12, "text-anchor": "middle" }, MARKS[verdict][0]));
    });
    y += MARK - 1;
  }
  return group;
}
