// The page's state and tables. Text of runs gets into the document through textContent only.

const data = JSON.parse(document.getElementById("data").textContent);
const chosen = { words: "", brushes: new Map(), environment: mostFrequent(data.runs.map((run) => data.groups[run.group].environment)) };
const listeners = []; // called whenever the runs that are shown, or the colours, have changed

function mostFrequent(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a)[0][0];
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** A select element with its label; `options` are [value, text]. */
function select(label, options, onChange) {
  const box = element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));
  box.addEventListener("change", () => onChange(box.value));
  return [element("label", {}, `${label} `, box), box];
}

function checkbox(label, checked, onChange) {
  const box = element("input", { type: "checkbox", checked });
  box.addEventListener("change", () => onChange(box.checked));
  return element("label", {}, box, ` ${label}`);
}

function button(label, onClick) {
  const made = element("button", { type: "button" }, label);
  made.addEventListener("click", onClick);
  return made;
}

/** A number as a reader wants it: 1,234.5 or 0.00023. */
function shownNumber(value) {
  if (value === null || value === undefined) return "-";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 6 : 4 });
}

// --- the table of runs -----------------------------------------------------------------------------------------------

const table = document.getElementById("runs");
const rows = [...table.tBodies[0].rows];
const heads = [...table.tHead.rows[0].cells];
const columns = new Map(heads.map((head, index) => [head.dataset.key.toLowerCase(), index]));
for (const [name, index] of [...columns]) {
  for (let end = name; end.includes("."); ) {
    end = end.slice(end.indexOf(".") + 1);
    if (!columns.has(end)) columns.set(end, index);
  }
}
let matching = new Set(rows.map((row) => Number(row.dataset.run)));

function valueOf(cell) {
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent;
  return text === "-" ? null : text;
}

const COMPARE = {
  "=": (a, b) => a === b,
  "!=": (a, b) => a !== b,
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
};

/** The test of one word of the filter on a row; a word that names no column is looked for in the row's text. */
function testOf(word) {
  const parts = /^([^<>=!]+)(<=|>=|!=|=|<|>)(.+)$/.exec(word);
  const index = parts && columns.get(parts[1].toLowerCase());
  if (parts && index !== undefined) {
    const wanted = parts[3].toLowerCase();
    return (row) => {
      const value = valueOf(row.cells[index]);
      if (typeof value === "number" && !Number.isNaN(Number(wanted))) return COMPARE[parts[2]](value, Number(wanted));
      if (value === null && parts[2] !== "!=") return false;
      return parts[2].length === 1 && parts[2] !== "=" ? false : COMPARE[parts[2]](String(value).toLowerCase(), wanted);
    };
  }
  return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
}

function isShown(run) {
  return matching.has(run);
}

/** Hide what the filter and the brushes leave out, and tell the charts. */
function refilter() {
  const tests = chosen.words.split(/\s+/).filter(Boolean).map(testOf);
  matching = new Set();
  for (const row of rows) {
    const run = Number(row.dataset.run);
    const within = tests.every((test) => test(row)) && [...chosen.brushes.values()].every((keeps) => keeps(run));
    row.hidden = !within;
    if (within) matching.add(run);
  }
  if (filter) {
    const all = matching.size === rows.length;
    document.getElementById("shown").textContent = all ? `${rows.length} runs` : `${matching.size} of ${rows.length} runs`;
  }
  for (const listener of listeners) listener();
}

function sortBy(index) {
  const head = heads[index];
  const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const order = rows.map((row) => [valueOf(row.cells[index]), row]);
  order.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is not there comes last, either way
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  });
  table.tBodies[0].append(...order.map(([, row]) => row));
}

if (rows.length > 1) heads.forEach((head, index) => {
  const text = head.textContent;
  head.textContent = "";
  head.append(button(text, () => sortBy(index)));
});

let waiting;
const filter = document.getElementById("filter"); // not there in a report of one run
filter?.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    chosen.words = filter.value;
    refilter();
  }, 120); // a word is typed letter by letter
});
document.getElementById("clear")?.addEventListener("click", () => {
  filter.value = chosen.words = "";
  chosen.brushes.clear();
  refilter();
});

// --- settings, colours -----------------------------------------------------------------------------------------------

const markedOnly = document.getElementById("marked-only");
function markSettings() {
  document.getElementById("Settings").classList.toggle("marked-only", markedOnly.checked);
}
markedOnly.addEventListener("change", markSettings);
markSettings();

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}

function nameTheme() {
  themeButton.textContent = isDark() ? "Light" : "Dark";
}

function recolour() {
  nameTheme();
  for (const listener of listeners) listener();
}

themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  recolour();
});
system.addEventListener("change", recolour);
root.classList.add("scripted");
