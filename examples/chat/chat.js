// The chat page: one connection that reconnects after a loss, a conversation for each room and person.

const LOBBY = "lobby";
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;
const MAX_LINES = 500;
const NORMAL_CLOSE = 1000;

const element = (id) => document.getElementById(id);
const [enter, chat, status, textField] = ["enter", "chat", "status", "text"].map(element);

// --- The connection: it reconnects after a loss ---

/** The open or opening socket; null between tries and before entering. */
let socket = null;
/** The name to stay connected under; null before entering and after leaving. */
let me = null;
let retryMs = FIRST_RETRY_MS;
let retry = 0;

async function connect() {
  status.textContent = "Connecting…";
  let url;
  try {
    const response = await fetch("gateway");
    if (!response.ok) throw new Error(`status ${response.status}`);
    ({ url } = await response.json());
  } catch {
    tryAgain("The backend does not answer.");
    return;
  }
  // Left, or entered anew, in the meantime.
  if (me === null || socket !== null) return;
  watch(new WebSocket(`${url}?name=${encodeURIComponent(me)}`));
}

function watch(opening) {
  let opened = false;
  socket = opening;
  opening.addEventListener("open", () => {
    if (socket !== opening) return;
    opened = true;
    retryMs = FIRST_RETRY_MS;
    status.textContent = `Connected as ${me}.`;
    allowWriting(true);
    send({ kind: "hello" });
    // The connection is another one than before: it is in the lobby only.
    for (const { kind, to } of conversations.values()) if (kind === "say" && to !== LOBBY) send({ kind: "join", to });
  });
  opening.addEventListener("message", ({ data }) => {
    if (socket === opening) receive(JSON.parse(data));
  });
  opening.addEventListener("close", ({ code, reason }) => {
    if (socket !== opening) return;
    socket = null;
    allowWriting(false);
    if (opened) showNotice("The connection has ended. What is said until it is back will be missing here.");
    // A browser does not tell a page why a handshake failed: refused and out of reach look the same.
    if (!opened) tryAgain("The gateway is out of reach or refuses the name.");
    else tryAgain(reason === "" ? `The connection was lost (${code}).` : `Closed: ${reason} (${code}).`);
  });
}

/** Waits twice as long after every failure, and a random part less, so that many pages do not come back at once. */
function tryAgain(why) {
  if (me === null) return;
  const waitMs = retryMs * (0.5 + Math.random() / 2);
  retryMs = Math.min(2 * retryMs, LONGEST_RETRY_MS);
  status.textContent = `${why} Trying again in ${Math.max(1, Math.round(waitMs / 1000))} s.`;
  retry = setTimeout(connect, waitMs);
}

function send(command) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(command));
}

function allowWriting(allowed) {
  for (const id of ["text", "send", "room", "leave-room"]) element(id).disabled = !allowed;
}

// --- What is known: conversations and people ---

/** By key. `kind` is `say` for a room and `tell` for a person, named by `to`, as in the messages. */
const conversations = new Map();
let current = null;
/** Everybody here, by name: the rooms that each is in. */
let people = new Map();
/** The room to show as soon as the backend says that it is joined. */
let wanted = null;

function receive(line) {
  if (line.kind === "notice") return showNotice(line.text);
  if (line.kind === "say") return showMessage(conversation("say", line.to), line);
  if (line.kind === "tell") return showMessage(conversation("tell", line.from === me ? line.to : line.from), line);
  if (line.kind === "here") {
    people = new Map();
    for (const { name, rooms } of line.people) people.set(name, new Set([...(people.get(name) ?? []), ...rooms]));
  } else if (line.kind === "join") {
    const joined = conversation("say", line.to);
    if (wanted === line.to) choose(joined);
  } else if (line.kind === "leave") end(conversation("say", line.to));
  render();
}

/** The conversation with a room or a person, made at the first use. */
function conversation(kind, to) {
  const key = `${kind} ${to}`;
  const known = conversations.get(key);
  if (known !== undefined) return known;
  const log = document.createElement("div");
  log.className = "log";
  log.role = "log";
  log.tabIndex = 0;
  log.hidden = true;
  log.ariaLabel = kind === "say" ? `Messages in ${to}` : `Messages between you and ${to}`;
  element("write").before(log);
  const made = { key, kind, to, log, unread: 0 };
  conversations.set(key, made);
  return made;
}

function choose(chosen) {
  if (current !== null) current.log.hidden = true;
  current = chosen;
  current.unread = 0;
  current.log.hidden = false;
  current.log.scrollTop = current.log.scrollHeight;
  wanted = null;
  textField.focus();
}

function end(ended) {
  if (current === ended) choose(conversation("say", LOBBY));
  ended.log.remove();
  conversations.delete(ended.key);
}

// --- The page: text goes in as text, never as HTML ---

function showMessage(into, { from, text, at }) {
  const [said, time, who] = ["span", "time", "strong"].map((tag) => document.createElement(tag));
  who.textContent = from;
  said.append(who, ` ${text}`);
  time.dateTime = at;
  time.textContent = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  show(into, from === me ? "own" : "", said, time);
  if (into === current) return;
  into.unread++;
  render();
}

function showNotice(text) {
  const said = document.createElement("span");
  said.textContent = text;
  show(current, "notice", said);
}

function show({ log }, className, ...parts) {
  const item = document.createElement("p");
  item.className = className;
  item.append(...parts);
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(item);
  if (log.children.length > MAX_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function render() {
  const rooms = Map.groupBy(
    [...people].flatMap(([name, rooms]) => [...rooms].map((room) => ({ name, room }))),
    ({ room }) => room,
  );
  const joined = [...conversations.values()].filter(({ kind }) => kind === "say").map(({ to }) => to);
  const told = [...conversations.values()].filter(({ kind }) => kind === "tell").map(({ to }) => to);
  renderList("rooms", "say", sorted([...rooms.keys(), ...joined], LOBBY), (room) =>
    joined.includes(room) ? `${rooms.get(room)?.length ?? 0}` : "join",
  );
  renderList("people", "tell", sorted([...people.keys(), ...told], me), (name) =>
    name === me ? "you" : people.has(name) ? "" : "gone",
  );
  element("people-heading").textContent = `People, ${people.size} here`;

  const { kind, to } = current;
  const members = sorted(rooms.get(to)?.map(({ name }) => name) ?? [], me);
  const alone = people.has(to) ? `Only you and ${to} see this.` : `${to} is not here.`;
  element("title").textContent = to;
  element("members").textContent = kind === "tell" ? alone : `${members.length} here: ${members.join(", ")}`;
  element("write-label").textContent = kind === "tell" ? `Private message to ${to}` : `Message to ${to}`;
  element("leave-room").hidden = kind === "tell" || to === LOBBY;
  const unread = [...conversations.values()].reduce((sum, { unread }) => sum + unread, 0);
  document.title = unread === 0 ? "hubwire chat" : `(${unread}) hubwire chat`;
}

/** Each name once, in the order of the alphabet but for one that goes first. */
function sorted(names, first) {
  return [...new Set(names)].sort((a, b) => (b === first) - (a === first) || a.localeCompare(b));
}

/** Keeps the buttons that are there, so that the keyboard's focus stays where it is. */
function renderList(id, kind, names, noteOf) {
  const list = element(id);
  const old = new Map([...list.children].map((item) => [item.dataset.name, item]));
  names.forEach((name, place) => {
    const item = old.get(name) ?? makeItem(kind, name);
    old.delete(name);
    if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
    const [button, , note, unread] = [item.firstChild, ...item.firstChild.children];
    const shown = conversations.get(`${kind} ${name}`);
    note.textContent = noteOf(name);
    unread.hidden = !shown?.unread;
    unread.firstChild.data = `${shown?.unread ?? 0}`;
    button.setAttribute("aria-current", String(shown !== undefined && shown === current));
  });
  for (const item of old.values()) item.remove();
}

function makeItem(kind, name) {
  const item = document.createElement("li");
  // Nobody writes to themselves.
  const button = document.createElement(kind === "tell" && name === me ? "div" : "button");
  const [label, note, unread, unseen] = ["name", "note", "unread", "unseen"].map((className) => {
    const span = document.createElement("span");
    span.className = className;
    return span;
  });
  item.dataset.name = name;
  button.className = "row";
  label.textContent = name;
  unseen.textContent = " unread";
  unread.append("0", unseen);
  button.append(label, note, unread);
  if (button.localName === "button") button.addEventListener("click", () => visit(kind, name));
  item.append(button);
  return item;
}

function visit(kind, name) {
  if (kind === "tell" || conversations.has(`${kind} ${name}`)) choose(conversation(kind, name));
  else {
    wanted = name;
    send({ kind: "join", to: name });
  }
  render();
}

function onSubmit(id, field, act) {
  element(id).addEventListener("submit", (event) => {
    event.preventDefault();
    const value = element(field).value.trim();
    if (value !== "") act(value);
  });
}

onSubmit("enter", "name", (name) => {
  me = name;
  retryMs = FIRST_RETRY_MS;
  enter.hidden = true;
  chat.hidden = false;
  choose(conversation("say", LOBBY));
  render();
  connect();
});

onSubmit("open-room", "room", (room) => {
  element("room").value = "";
  visit("say", room);
});

onSubmit("write", "text", (text) => {
  if (socket?.readyState !== WebSocket.OPEN) return;
  send({ kind: current.kind, to: current.to, text });
  textField.value = "";
});

element("leave-room").addEventListener("click", () => send({ kind: "leave", to: current.to }));

element("leave").addEventListener("click", () => {
  me = null;
  clearTimeout(retry);
  socket?.close(NORMAL_CLOSE, "left");
  socket = null;
  allowWriting(false);
  for (const { log } of conversations.values()) log.remove();
  conversations.clear();
  people = new Map();
  current = null;
  for (const id of ["rooms", "people"]) element(id).replaceChildren();
  chat.hidden = true;
  enter.hidden = false;
  status.textContent = "Not connected.";
  document.title = "hubwire chat";
  element("name").focus();
});
