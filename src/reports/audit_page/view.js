const part = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("button[data-label]")];
let name = null;
let state = null;
let place = 0;
let sending = false;
let isKept = storage !== null;

const counted = (count, noun) => count + " " + noun + (count === 1 ? "" : "s");

function begin() {
  name = state = null;
  part("work").hidden = true;
  part("start").hidden = false;
  part("amount").textContent = counted(questions.length, "question") + " about " + counted(data.images.length, "image") + ".";
  part("keeping").textContent = storage
    ? "Your answers are kept in this browser until you clear its data. " +
      (data.served ? "Each is sent to the server as you give it." : "Save labels at the end, and hand the file over.")
    : "This browser keeps nothing when the page is closed: " +
      (data.served ? "what the server has is there again." : "save your labels before you leave, and load the file to go on.");
  const known = keptNames().map((known) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Go on as " + known + " (" + answered(kept(known)) + " of " + questions.length + ")";
    button.addEventListener("click", () => enter(known));
    return button;
  });
  part("known").replaceChildren(...known);
  part("name").value = "";
  part("name-fault").textContent = "";
  part("name").focus();
}

function enter(wanted) {
  name = wanted;
  state = kept(name);
  part("start").hidden = true;
  part("work").hidden = false;
  part("fault").textContent = part("server").textContent = part("said").textContent = "";
  part("who").textContent = name;
  moveTo(state.at);
  part("question").focus();
  if (data.served) fromServer(name, state);
}

// What the server has of an annotator, who may have begun on another machine.
async function fromServer(own, into) {
  try {
    const answer = await fetch("given", post({ annotator: own }));
    if (!answer.ok) throw new Error(await answer.text());
    const labels = labelsIn(await answer.text()).get(own);
    const isAtStart = into.undo.length === 0;
    if (labels && takeIn(into, labels, true) > 0) {
      isKept = keep(own, into);
      if (into === state) moveTo(isAtStart ? nextOpen(-1) ?? place : place);
    }
  } catch (error) {
    if (into === state) part("fault").textContent = "What the server has of you cannot be read: " + words(error);
  }
  send();
}

const words = (error) => error instanceof TypeError || error.name === "TimeoutError" ? "the server does not answer." : error.message;
const post = (body) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal: AbortSignal.timeout(15000),
});

// Sends what the server has not, one label at a time; what could not be sent is tried again.
async function send() {
  if (!data.served || sending || !state) return;
  sending = true;
  const [own, from] = [name, state];
  let failure = null;
  while (failure === null && from.unsent.length > 0) {
    const next = from.unsent[0];
    const said = from.labels[next];
    try {
      const answer = await fetch("labels", post(record(own, next, said)));
      if (!answer.ok) throw new Error(await answer.text());
      // Somebody may have changed their mind meanwhile.
      if (from.labels[next] === said) from.unsent = from.unsent.filter((other) => other !== next);
      keep(own, from);
    } catch (error) {
      failure = words(error);
    }
  }
  sending = false;
  if (from === state) tellOfServer(failure);
  if (failure !== null) setTimeout(send, 3000);
  else if (state && state.unsent.length > 0) send();
}

function tellOfServer(failure) {
  const waiting = counted(state.unsent.length, "label");
  part("server").className = failure === null ? "" : "warning";
  part("server").textContent = failure === null ? "All labels are on the server."
    : waiting + " could not be sent: " + failure + " Nothing is lost as long as this page is open" +
      (isKept ? " or this browser keeps its data" : "") + "; sending is tried again.";
}

function show(at) {
  place = Math.min(Math.max(at, 0), questions.length - 1);
  const { image, text } = questions[place];
  const about = questions.flatMap((question, other) => (question.image === image ? [other] : []));
  const picture = part("image");
  if (picture.dataset.image !== String(image)) {
    picture.dataset.image = String(image);
    picture.src = "data:image/jpeg;base64," + data.images[image].jpeg;
    picture.width = data.images[image].width;
    picture.height = data.images[image].height;
  }
  part("where").textContent = "Question " + (place + 1) + " of " + questions.length + "; image " + (image + 1) + " of " +
    data.images.length + ", " + (about.indexOf(place) + 1) + " of its " + counted(about.length, "question");
  part("question").textContent = text;
  const label = labelAt(state, place);
  buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.label === label)));
  const done = answered(state);
  part("progress").max = questions.length;
  part("progress").value = done;
  part("done").textContent = done + " of " + questions.length + " answered" +
    (done < questions.length ? "" : ". That is all: " + (data.served ? "thank you." : "save your labels."));
  part("previous").disabled = place === 0;
  part("next").disabled = place === questions.length - 1;
  part("open").disabled = done === questions.length;
  part("undo").disabled = state.undo.length === 0;
  part("unsaved").textContent = (isKept ? "" : "Nothing is kept in this browser. ") +
    (state.changes > 0 && !data.served ? counted(state.changes, "change") + " since the labels were last saved as a file." : "");
  state.at = place;
}

function moveTo(at) {
  show(at);
  isKept = keep(name, state);
}

// The first open question behind a place, else the first of all.
function nextOpen(from) {
  const isOpen = (other) => !labelAt(state, other);
  const order = questions.map((_, other) => (from + 1 + other) % questions.length);
  return order.find(isOpen);
}

function say(at, label) {
  const time = new Date().toISOString();
  state.labels[at] = [label, time];
  state.changes += 1;
  if (data.served) {
    state.unsent = state.unsent.filter((other) => other !== at);
    state.unsent.push(at);
  }
}

const NAMES = { yes: "yes", no: "no", cannot_tell: "cannot tell" };

function give(label) {
  state.undo.push([place, labelAt(state, place) ?? TAKEN_BACK]);
  say(place, label);
  const given = "Answer to question " + (place + 1) + ": " + NAMES[label] + ".";
  // On to the next one; from the last one to what was left open.
  moveTo(place + 1 < questions.length ? place + 1 : nextOpen(place) ?? place);
  part("said").textContent = given;
  send();
}

function undo() {
  const last = state.undo.pop();
  if (!last) return;
  const [at, before] = last;
  say(at, before);
  moveTo(at);
  part("said").textContent = "Question " + (at + 1) + " is " + (NAMES[before] ? NAMES[before] + " again." : "open again.");
  send();
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([fileOf(name, state)], { type: "application/x-ndjson" }));
  link.download = "labels-" + name + ".jsonl";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  state.changes = 0;
  moveTo(place);
  part("said").textContent = "Saved as " + link.download + ".";
}

async function load(file) {
  part("fault").textContent = "";
  try {
    const found = labelsIn(await file.text());
    let taken = 0;
    const others = [...found.keys()].filter((own) => own !== name);
    for (const [own, labels] of found) {
      const into = own === name ? state : kept(own);
      const more = takeIn(into, labels, false);
      if (own === name || keep(own, into)) taken += more;
    }
    moveTo(place);
    const where = storage ? " are there under their own names." : " are left out, since this browser keeps nothing.";
    part("said").textContent = counted(taken, "label") + " taken in from " + file.name +
      (others.length > 0 ? "; those of " + others.join(", ") + where : ".");
    send();
  } catch (error) {
    part("fault").textContent = file.name + " cannot be loaded. " + error.message;
  }
  part("file").value = "";
}

part("names").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = part("name").value.trim().normalize("NFC");
  if (NAME.test(wanted)) {
    enter(wanted);
  } else {
    part("name-fault").textContent = "Use up to " + data.longest_name + " letters, digits, -, _ and ., and begin with a letter or digit.";
    part("name").focus();
  }
});
buttons.forEach((button) => button.addEventListener("click", () => give(button.dataset.label)));
const MOVES = {
  previous: () => moveTo(place - 1),
  next: () => moveTo(place + 1),
  open: () => moveTo(nextOpen(place) ?? place),
  undo,
};
Object.entries(MOVES).forEach(([id, move]) => part(id).addEventListener("click", move));
part("save").addEventListener("click", save);
part("file").addEventListener("change", () => part("file").files.length > 0 && load(part("file").files[0]));
part("leave").addEventListener("click", begin);

const KEYS = {
  y: () => give("yes"), 1: () => give("yes"),
  n: () => give("no"), 2: () => give("no"),
  c: () => give("cannot_tell"), 3: () => give("cannot_tell"),
  ArrowLeft: MOVES.previous, ArrowRight: MOVES.next, o: MOVES.open, u: undo,
};
document.addEventListener("keydown", (event) => {
  const isTyped = event.target instanceof HTMLInputElement && event.target.type === "text";
  if (!state || isTyped || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!Object.hasOwn(KEYS, key)) return;
  event.preventDefault();
  KEYS[key]();
});
// The same annotator in another tab: what is kept is what counts.
window.addEventListener("storage", (event) => {
  if (state && event.key === PREFIX + name && event.newValue !== null) {
    // Nothing is written here: the other tab would hear of it, and answer.
    Object.assign(state, kept(name));
    show(place);
  }
});
window.addEventListener("beforeunload", (event) => {
  const isLost = state && !isKept && (data.served ? state.unsent.length > 0 : state.changes > 0);
  if (isLost) event.preventDefault();
});
begin();
