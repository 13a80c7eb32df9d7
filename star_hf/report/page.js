"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;

  // Theme: the system's until the button is used; the choice is stored if the browser allows it.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const store = (value) => { try { return value ? localStorage.setItem("theme", value) : localStorage.getItem("theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const earlier = store();
  if (earlier === "light" || earlier === "dark") root.dataset.theme = earlier;

  // Pictures are drawn when they come near the window, and again when the theme changes.
  const dark = new Map(data.palette);
  const themed = (value, map) => {
    if (typeof value === "string") return map.get(value) ?? value;
    if (Array.isArray(value)) return value.map((part) => themed(part, map));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, themed(part, map)]));
    return value;
  };
  const drawn = new Set();
  const draw = (element, asDark = isDark()) => {
    if (!element.offsetParent) return;
    const figure = data.figures[element.dataset.figure];
    const { data: traces, layout } = asDark ? themed(figure, dark) : structuredClone(figure);
    drawn.add(element);
    Plotly.react(element, traces, { ...layout, autosize: true }, { displayModeBar: false, responsive: true, scrollZoom: false });
  };
  const charts = [...document.querySelectorAll(".chart")];
  const near = new IntersectionObserver(
    (entries) => { for (const entry of entries) if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target); },
    { rootMargin: "600px" },
  );
  charts.forEach((element) => near.observe(element));
  const redraw = () => drawn.forEach((element) => draw(element));
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    store(root.dataset.theme);
    redraw();
  });
  system.addEventListener("change", redraw);
  addEventListener("beforeprint", () => charts.forEach((element) => draw(element, false)));
  addEventListener("afterprint", redraw);

  // Samples. Texts enter the page when the reader opens them, always as text, never as markup.
  const form = document.getElementById("filters");
  if (!form) return;
  const PAGE = 20;
  const cards = document.getElementById("cards");
  const more = document.getElementById("more");
  const found = document.getElementById("found");
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const lowest = (row) => Math.min(...Object.values(row.score));
  const good = (row) => row.outcome === "kept" || row.outcome === "benign twin";
  const options = (name, values) => {
    for (const [value, count] of values) {
      const option = make("option", "", `${value} (${count})`);
      option.value = value;
      form.elements[name].append(option);
    }
    form.elements[name].closest("label").hidden = values.length === 0;
  };
  const tally = (lists) => {
    const counts = new Map();
    for (const list of lists) for (const value of list) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts];
  };
  const byCount = (one, other) => other[1] - one[1];
  options("outcome", tally(data.samples.map((row) => [row.outcome])));
  options("category", tally(data.samples.map((row) => row.category)).sort(byCount));
  options("source", tally(data.samples.map((row) => [row.source])).sort(byCount));
  options("mark", tally(data.samples.map((row) => (Object.keys(row.score).length ? [lowest(row)] : []))).sort((one, other) => other[0] - one[0]));

  const fill = (box, row) => {
    const add = (title, text, className) => {
      if (text === null) return;
      box.append(make("h3", "", title), make("p", `said ${className}`, text));
    };
    add("Question", row.question, "question");
    add("Reasoning", row.thought, "thought");
    add("Answer", row.answer, "answer");
    if (row.matched) {
      const similarity = row.matched.similarity === null ? "" : `, similarity ${row.matched.similarity.toFixed(4)}`;
      add(`Matched ${row.matched.id} of ${row.matched.source}${similarity}`, row.matched.text ?? "(not in this run)", "matched");
    }
    add("Detail", row.detail, "detail");
    if (row.origin) add("Twin of", row.origin, "detail");
  };
  const card = (row) => {
    const element = make("article", "card");
    const header = make("header");
    header.append(make("span", good(row) ? "outcome good" : "outcome", row.outcome.replaceAll("_", " ")), make("span", "", row.source));
    if (row.category.length) header.append(make("span", "", row.category.join(" · ")));
    if (Object.keys(row.score).length) {
      const marks = make("span", "", `marks ${Object.values(row.score).join(" · ")}`);
      marks.title = Object.entries(row.score).map(([name, mark]) => `${name.replaceAll("_", " ")}: ${mark}`).join("\n");
      header.append(marks);
    }
    header.append(make("code", "", row.id));
    const button = make("button", "show", "Show text");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    const box = make("div", "text");
    box.hidden = true;
    const set = (shown) => {
      if (shown && !box.hasChildNodes()) fill(box, row);
      box.hidden = !shown;
      button.textContent = shown ? "Hide text" : "Show text";
      button.setAttribute("aria-expanded", String(shown));
    };
    button.addEventListener("click", () => set(box.hidden));
    header.append(button);
    element.append(header, box);
    if (form.elements.reveal.checked) set(true);
    return element;
  };

  let chosen = [];
  let shown = 0;
  const next = () => {
    cards.append(...chosen.slice(shown, shown + PAGE).map(card));
    shown = Math.min(shown + PAGE, chosen.length);
    more.hidden = shown >= chosen.length;
    found.textContent = chosen.length ? `${shown.toLocaleString("en")} of ${chosen.length.toLocaleString("en")} shown` : "No sample matches. Remove a filter.";
  };
  const filter = () => {
    const { outcome, category, source, mark, words } = Object.fromEntries(new FormData(form));
    const wanted = words.toLowerCase().trim();
    const texts = (row) => [row.id, row.question, row.thought, row.answer, row.detail, row.matched?.id, row.matched?.text];
    chosen = data.samples.filter((row) =>
      (!outcome || row.outcome === outcome) &&
      (!category || row.category.includes(category)) &&
      (!source || row.source === source) &&
      (!mark || (Object.keys(row.score).length > 0 && lowest(row) === Number(mark))) &&
      (!wanted || texts(row).some((text) => text?.toLowerCase().includes(wanted))));
    shown = 0;
    cards.replaceChildren();
    next();
  };
  let waiting;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", next);
  filter();
})();
