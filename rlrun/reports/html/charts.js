// Learning curves and heat maps, drawn by Plotly.

const PALETTE = {
  light: ["#1f6fb4", "#d1570b", "#2c8a3d", "#b3369b", "#8a6d00", "#c22f3c", "#6a4fc1", "#0a8a8f", "#7a5230", "#5c6670"],
  dark: ["#6db3f2", "#ff9a4d", "#6fd08c", "#f08ad8", "#e0c04c", "#ff7a85", "#ab97ff", "#4fd0d6", "#d3a27a", "#aab4bf"],
};
const DASHES = ["solid", "dash", "dot", "dashdot"];
const SYMBOLS = ["circle", "square", "diamond", "cross", "triangle-up", "x", "star"];
const HEAD = 34; // above a chart, for the buttons of Plotly
const MOST_LINES = 10; // groups at first, the best
const MOST_BANDS = 6, MOST_THIN = 3; // groups with which intervals, and curves of single runs, are drawn at first
const PLOT = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d"] };

/** Text for Plotly, which takes some markup in it for markup. */
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function shortened(text, most = 48) {
  if (text.length <= most) return text;
  const end = Math.floor(most / 2); // what tells names apart is often there
  return `${text.slice(0, most - end - 1)}…${text.slice(-end)}`;
}

/** Texts of about `most` letters that stay different: if they would not, without what all of them begin and end with, else numbered. */
function shortenedApart(texts, most) {
  const different = (short) => new Set(short).size === new Set(texts).size;
  const short = texts.map((text) => shortened(text, most));
  if (different(short)) return short;
  const same = (at) => texts.every((text) => at(text) !== undefined && at(text) === at(texts[0]));
  let start = 0, end = 0;
  while (same((text) => text[start])) start += 1;
  while (same((text) => text[text.length - 1 - end])) end += 1;
  [start, end] = [Math.max(0, start - 4), Math.max(0, end - 4)]; // a few letters around
  const middle = texts.map((text) => `${start ? "…" : ""}${text.slice(start, Math.max(start, text.length - end))}${end ? "…" : ""}`);
  const cut = middle.map((text) => shortened(text, most));
  return different(cut) ? cut : short.map((text, index) => `${index + 1}: ${text}`);
}

/** Text for Plotly in lines of at most `most` letters, broken after commas where there are any. */
function inLines(text, most) {
  const lines = [""];
  const parts = text.split(/(?<=, )/).flatMap((part) => part.match(new RegExp(`.{1,${most}}`, "gsu")) ?? []);
  for (const part of parts) {
    if (lines.at(-1) && (lines.at(-1) + part).length > most) lines.push("");
    lines[lines.length - 1] += part;
  }
  return lines.map((line) => plain(line.trim())).join("<br>");
}

function ink(name) {
  const probe = element("span", { class: `probe-${name}` });
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function layoutOf(extra) {
  const grid = { gridcolor: ink("grid"), zerolinecolor: ink("grid"), linecolor: ink("grid"), automargin: true };
  const { xaxis = {}, yaxis = {}, ...rest } = extra;
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink("text"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 55, r: 12, t: HEAD, b: 45 },
    hoverlabel: { bgcolor: ink("panel"), bordercolor: ink("grid"), font: { color: ink("text") }, namelength: -1 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink("note"), activecolor: ink("text") },
    xaxis: { ...grid, ...xaxis },
    yaxis: { ...grid, ...yaxis },
    ...rest,
  };
}

function translucent(colour, alpha) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},${alpha})`;
}

// --- learning curves -------------------------------------------------------------------------------------------------

const curves = document.getElementById("curves");
const many = Math.min(data.groups.length, MOST_LINES);
const view = { metric: 0, clock: false, all: false, single: many <= MOST_THIN, bands: many <= MOST_BANDS, log: false };

function bestFirst(groups) {
  const final = (group) => data.groups[group].final ?? -Infinity;
  return [...groups].sort((a, b) => final(b) - final(a));
}

/** The groups to draw: of the chosen environment, with a run that the filter shows; the best ones, unless all are wanted. */
function drawnGroups() {
  const withRuns = new Set(data.runs.flatMap((run, number) => (isShown(number) ? [run.group] : [])));
  const groups = data.groups.flatMap((group, number) =>
    group.environment === chosen.environment && withRuns.has(number) ? [number] : [],
  );
  const best = bestFirst(groups);
  return { groups: view.all ? best : best.slice(0, MOST_LINES), of: best.length };
}

const ranks = new Map(bestFirst(data.groups.keys()).map((group, rank) => [group, rank])); // the best get colours of their own

function colourOf(group) {
  const palette = PALETTE[isDark() ? "dark" : "light"], rank = ranks.get(group);
  return { color: palette[rank % palette.length], dash: DASHES[(rank + Math.floor(rank / palette.length)) % DASHES.length] };
}

const sizes = new Map();
for (const { group } of data.runs) sizes.set(group, (sizes.get(group) ?? 0) + 1);

function thinLines(metric, groups) {
  const shown = metric.runs.filter(({ run }) => isShown(run) && groups.has(data.runs[run].group));
  return shown.flatMap((line) => {
    const x = data.places[view.clock ? line.clock : line.x];
    if (!x) return []; // its seconds are not known
    const { color } = colourOf(data.runs[line.run].group);
    if (sizes.get(data.runs[line.run].group) < 2) return []; // the line of its group is the same
    return [{
      x, y: line.y, mode: x.length < 2 ? "markers" : "lines", type: "scatter", name: plain(data.runs[line.run].name), showlegend: false,
      line: { color: translucent(color, 0.35), width: 1 }, marker: { color: translucent(color, 0.6), size: 5 }, hoverinfo: "x+y+name", legendgroup: String(data.runs[line.run].group),
    }];
  });
}

function groupLines(curve, label) {
  const style = colourOf(curve.group);
  const x = data.places[curve.x];
  const common = { x, mode: "lines", type: "scatter", legendgroup: String(curve.group) };
  const edge = { ...common, line: { width: 0 }, hoverinfo: "skip", showlegend: false };
  const fill = translucent(style.color, 0.16);
  const point = x.length < 2, bounded = view.bands && curve.low;
  const band = bounded && !point ? [{ ...edge, y: curve.low }, { ...edge, y: curve.high, fill: "tonexty", fillcolor: fill }] : [];
  const mode = point ? "markers" : "lines";
  const name = label + (curve.count > 1 ? ` (${curve.count} runs)` : "");
  const marker = { color: style.color, size: 9, symbol: SYMBOLS[ranks.get(curve.group) % SYMBOLS.length] };
  const bar = bounded && point ? { error_y: {
    type: "data", symmetric: false, array: curve.y.map((y, at) => curve.high[at] - y), arrayminus: curve.y.map((y, at) => y - curve.low[at]),
  } } : {};
  return [...band, { ...common, ...bar, mode, y: curve.y, name, line: { ...style, width: 2.2 }, marker, hoverinfo: "x+y+name" }];
}

/** Room for the chart and for the legend, which is beside it, or below on a narrow screen. */
function heightOf(narrow, labels) {
  const legend = labels.reduce((sum, label) => sum + 17 * label.split("<br>").length + 8, 0);
  return narrow ? 450 + legend : Math.max(450, HEAD + 80 + legend);
}

/** Ticks at whole frames: between a few frames Plotly would have fractions, too. */
function wholeFrames(traces) {
  const places = traces.flatMap(({ x }) => (x.length ? [x[0], x.at(-1)] : []));
  const low = Math.min(...places), high = Math.max(...places);
  const few = places.length && high - low < 8;
  return { tickformat: ",d", tickvals: few ? Array.from({ length: high - low + 1 }, (_, step) => low + step) : undefined };
}

/** Traces that are all at the same place, moved aside by their group, so that they can be told apart. */
function besideEachOther(traces, groups) {
  return traces.map((trace) => ({
    ...trace, customdata: trace.x, x: trace.x.map((at) => at + groups.indexOf(Number(trace.legendgroup)) - (groups.length - 1) / 2),
    hovertemplate: "%{customdata:,}, %{y}<extra>%{fullData.name}</extra>",
  }));
}

function drawCurves() {
  const metric = data.metrics[view.metric];
  const { groups, of } = drawnGroups();
  const wanted = new Set(groups);
  const known = new Map((view.clock ? metric.clock : metric.groups).map((curve) => [curve.group, curve]));
  const narrow = curves.clientWidth < 640;
  const labels = shortenedApart(groups.map((group) => data.groups[group].label), 96).map((label) => inLines(label, narrow ? 44 : 36));
  const lines = groups.flatMap((group, index) => (known.has(group) ? groupLines(known.get(group), labels[index]) : []));
  const traces = [...(view.single ? thinLines(metric, wanted) : []), ...lines];
  const entries = groups.length > 1 && groups.length <= 24;
  const layout = layoutOf({
    height: heightOf(narrow, entries ? labels : []),
    showlegend: entries,
    legend: narrow ? { orientation: "h", y: -0.32, yanchor: "top", x: 0, tracegroupgap: 4 } : { x: 1.01, y: 1, itemwidth: 42, tracegroupgap: 4 },
    hovermode: "closest",
    uirevision: `${view.metric} ${view.clock} ${view.log} ${chosen.environment}`,
    xaxis: { ...(view.clock ? {} : wholeFrames(traces)), title: { text: view.clock ? "seconds of training" : "frames" } },
    yaxis: { title: { text: plain(metric.label) }, type: view.log ? "log" : "linear" },
  });
  if (!traces.length) layout.annotations = [{ text: "no run that is shown has this", showarrow: false, x: 0.5, y: 0.5, xref: "paper", yref: "paper" }];
  const beside = groups.length > 1 && new Set(traces.flatMap(({ x }) => x)).size === 1;
  if (beside) layout.xaxis.title.text += " (settings beside each other)";
  Plotly.react(curves, beside ? besideEachOther(traces, groups) : traces, layout, PLOT);
  moreLines.hidden = of <= MOST_LINES;
  moreLines.querySelector("span").textContent = ` all ${of} settings (else the best ${MOST_LINES})`;
}

/** Move the range of the x axis: `share` of it is kept, and its middle goes by `shift` of it. For those who use no mouse. */
function move(share, shift) {
  const axis = curves.layout.xaxis;
  const [low, high] = axis.range.map(Number);
  const middle = (low + high) / 2 + shift * (high - low);
  const half = (share * (high - low)) / 2;
  Plotly.relayout(curves, { "xaxis.range": [middle - half, middle + half] });
}

let moreLines = element("span", {});

function curveControls() {
  const [metricLabel] = select("Metric", data.metrics.map(({ label }, index) => [index, label]), (value) => {
    view.metric = Number(value);
    if (!data.metrics[view.metric].clock) view.clock = false;
    clockBox.value = view.clock ? "clock" : "frames";
    clockBox.disabled = !data.metrics[view.metric].clock;
    drawCurves();
  });
  const axes = [["frames", "frames"], ["clock", "seconds"]];
  const [clockLabel, clockBox] = select("against", axes, (value) => {
    view.clock = value === "clock";
    drawCurves();
  });
  clockBox.disabled = !data.metrics[0].clock;
  const setting = (key) => (value) => {
    view[key] = value;
    drawCurves();
  };
  moreLines = element("label", {}, element("input", { type: "checkbox" }), element("span", {}));
  moreLines.firstChild.addEventListener("change", (event) => setting("all")(event.target.checked));
  const zoom = element("span", { class: "buttons", role: "group", "aria-label": "zoom" },
    button("Zoom in", () => move(0.5, 0)),
    button("Zoom out", () => move(2, 0)),
    button("←", () => move(1, -0.25)),
    button("→", () => move(1, 0.25)),
    button("Reset", () => Plotly.relayout(curves, { "xaxis.autorange": true, "yaxis.autorange": true })),
  );
  zoom.children[2].setAttribute("aria-label", "earlier");
  zoom.children[3].setAttribute("aria-label", "later");
  const [environmentLabel, environmentBox] = select("Environment", data.environments.map((name, index) => [index, name]), (value) => {
    chosen.environment = Number(value);
    drawCurves();
  });
  environmentBox.value = chosen.environment;
  const environment = data.environments.length > 1 ? [environmentLabel] : [];
  const several = data.groups.length < data.runs.length;
  document.getElementById("curve-controls").append(
    ...environment, metricLabel, clockLabel, moreLines,
    ...(several ? [checkbox("single runs", view.single, setting("single")), checkbox("intervals", view.bands, setting("bands"))] : []),
    checkbox("logarithmic", false, setting("log")), zoom,
  );
}

if (curves) {
  curveControls();
  listeners.push(drawCurves);
}

// --- heat maps -------------------------------------------------------------------------------------------------------

function heatMap(place, study) {
  const picked = { x: 0, y: 1 };
  const chart = place.querySelector(".heat");

  function draw() {
    const [first, second] = [Math.min(picked.x, picked.y), Math.max(picked.x, picked.y)];
    const pair = study.pairs.find(({ x, y }) => x === first && y === second);
    const turned = picked.x !== first;
    const turn = (matrix) => (turned ? matrix[0].map((_, column) => matrix.map((row) => row[column])) : matrix);
    const [z, count] = [turn(pair.z), turn(pair.count)];
    const [across, up] = [study.axes[picked.x], study.axes[picked.y]];
    const names = (axis) => shortenedApart(axis.levels, 20).map(plain);
    const ticks = (axis) => ({ tickvals: axis.levels.map((_, index) => index), ticktext: names(axis), title: { text: plain(axis.key) } });
    const few = z.length * z[0].length <= 80;
    const trace = {
      type: "heatmap", z, xgap: 2, ygap: 2, hoverongaps: false, colorscale: "Cividis", hoverinfo: "text",
      hovertext: z.map((row, up_) => row.map((value, across_) => [
        `${plain(across.key)} = ${names(across)[across_]}`, `${plain(up.key)} = ${names(up)[up_]}`,
        `IQM ${shownNumber(value)} of ${count[up_][across_]} runs`].join("<br>"))),
      text: few ? z.map((row) => row.map((value) => (value === null ? "" : shownNumber(value)))) : undefined,
      texttemplate: few ? "%{text}" : undefined,
      colorbar: { thickness: 12, outlinewidth: 0 },
    };
    const height = Math.max(220, Math.min(640, 110 + HEAD + 46 * z.length));
    const layout = layoutOf({ height, xaxis: { ...ticks(across), showgrid: false }, yaxis: { ...ticks(up), showgrid: false } });
    Plotly.react(chart, [trace], layout, PLOT);
  }

  const options = study.axes.map(({ key }, index) => [index, key]);
  const boxes = {};
  for (const [axis, other, label] of [["x", "y", "Across"], ["y", "x", "Up"]]) {
    const [named, box] = select(label, options, (value) => {
      const before = picked[axis];
      picked[axis] = Number(value);
      if (picked.x === picked.y) picked[other] = before; // the other way round
      boxes[other].value = picked[other];
      draw();
    });
    boxes[axis] = box;
    box.value = picked[axis];
    place.querySelector(".heat-controls").append(named);
  }
  listeners.push(draw);
}
