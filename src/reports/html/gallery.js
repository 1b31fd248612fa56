// In: the data of the page and the filters. Out: the items that pass, in order, a page of them at a time.

const find = (id) => document.getElementById(id);
const text = find("text"), category = find("category"), verdict = find("verdict"), run = find("run"), base = find("base");
const low = find("low"), high = find("high"), order = find("order"), perPage = find("per-page"), form = find("filters");
let page = 0, shown = [];
const broad = (name) => name.split("-")[0].trim();
// What a text search looks through, made when first needed.
const haystacks = [];
function haystack(place) {
  if (!haystacks[place]) {
    const item = data.items[place];
    haystacks[place] = [item.id, item.prompt, ...item.questions.map((question) => question[1])].join("\n").toLowerCase();
  }
  return haystacks[place];
}

function fillChoices() {
  category.append(make("option", { value: "" }, "all categories"));
  let group = null;
  data.categories.forEach((name, place) => {
    if (!group || group.label !== broad(name)) {
      group = make("optgroup", { label: broad(name) }, make("option", { value: "l1:" + broad(name) }, "all of " + broad(name)));
      category.append(group);
    }
    group.append(make("option", { value: "l2:" + place }, name));
  });
  data.runs.forEach((own, number) => {
    run.append(make("option", { value: number }, own.name));
    base.append(make("option", { value: number }, own.name));
  });
  const several = data.runs.length > 1;
  for (const label of document.querySelectorAll(".several")) label.hidden = !several;
  const orders = [["file", "as in the benchmark"], ["up", "lowest score first"], ["down", "highest score first"], ["spread", "images differ most first"]];
  if (several) orders.push(["swing", "largest swing first"], ["gain", "largest gain first"], ["loss", "largest loss first"]);
  for (const [value, words] of orders) order.append(make("option", { value }, words));
  defaults();
}

// A change is looked at from the first run to the second.
function defaults() {
  run.value = String(Math.min(1, data.runs.length - 1));
  base.value = "0";
}

const scoreOf = (item, number) => (item.runs[number] ? item.runs[number].score : null);
function swingOf(item) {
  const [a, b] = [scoreOf(item, Number(base.value)), scoreOf(item, Number(run.value))];
  return a === null || b === null ? null : b - a;
}
function spreadOf(item) {
  const own = item.runs[Number(run.value)];
  const scores = own ? own.images.map((image) => image.score).filter((score) => score !== null) : [];
  return scores.length > 1 ? Math.max(...scores) - Math.min(...scores) : null;
}

// The places of the questions of the chosen category.
function placesOf(item) {
  const places = item.questions.map((_, place) => place);
  if (!category.value) return places;
  const [level, name] = [category.value.slice(0, 3), category.value.slice(3)];
  return places.filter((place) => {
    const own = item.questions[place][2];
    return level === "l1:" ? broad(data.categories[own]) === name : own === Number(name);
  });
}

function passes(item, place) {
  const wanted = text.value.trim().toLowerCase();
  if (wanted && !haystack(place).includes(wanted)) return false;
  const own = item.runs[Number(run.value)];
  if (low.value !== "" || high.value !== "") {
    const score = own ? own.score : null;
    if (score === null || (low.value !== "" && score < Number(low.value)) || (high.value !== "" && score > Number(high.value))) return false;
  }
  const places = placesOf(item);
  if (places.length === 0 && category.value) return false;
  if (!verdict.value) return true;
  const marks = own ? own.images.flatMap((image) => places.map((question) => image.judges[0].ruled[question])) : [];
  if (verdict.value === "all") return marks.length > 0 && marks.every((mark) => mark === "y");
  return marks.some((mark) => verdict.value.includes(mark));
}

// Items without the number stand last, whatever the order.
function ordered(items) {
  const numbers = { up: (i) => scoreOf(i, Number(run.value)), down: (i) => scoreOf(i, Number(run.value)), spread: spreadOf,
    swing: (i) => { const swing = swingOf(i); return swing === null ? null : Math.abs(swing); }, gain: swingOf, loss: swingOf }[order.value];
  if (!numbers) return items;
  const sign = order.value === "up" || order.value === "loss" ? 1 : -1;
  return items.map((item) => [item, numbers(item)])
    .sort(([, a], [, b]) => (a === null) - (b === null) || sign * (a - b)).map(([item]) => item);
}

function refresh() {
  shown = ordered(data.items.filter(passes));
  page = 0;
  render();
}

function render() {
  const count = Number(perPage.value), pages = Math.max(1, Math.ceil(shown.length / count));
  page = Math.min(page, pages - 1);
  const items = shown.slice(page * count, (page + 1) * count);
  find("items").replaceChildren(...items.map((item) => itemView(item, Number(base.value), Number(run.value))));
  find("status").textContent = shown.length === data.items.length ? "All " + shown.length + " items." : shown.length + " of " + data.items.length + " items.";
  for (const pager of document.querySelectorAll(".pager")) {
    pager.hidden = pages < 2;
    pager.querySelector(".where").textContent = "Page " + (page + 1) + " of " + pages;
    pager.querySelector("[data-page=previous]").disabled = page === 0;
    pager.querySelector("[data-page=next]").disabled = page === pages - 1;
  }
}

function start() {
  fillChoices();
  for (const [sign, meaning] of Object.entries(MARKS)) {
    find("legend").append(make("span", {}, make("span", { class: "mark is-" + sign }, meaning[0]), " " + meaning[1]));
  }
  form.hidden = false;
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { defaults(); refresh(); }));
  for (const button of document.querySelectorAll("[data-page]")) {
    button.addEventListener("click", () => {
      page += button.dataset.page === "next" ? 1 : -1;
      render();
      find("gallery").scrollIntoView();
    });
  }
  refresh();
}

start();
