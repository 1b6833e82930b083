"use strict";
// Parts of the page come as HTML that the server has escaped; each replaces the part of its name.
(() => {
  const at = (id) => document.getElementById(id);
  const words = at("words"), choices = { sweep: at("only-sweep"), state: at("only-state") };
  let sorted = null;

  function frameOf(name) {
    if (!name.startsWith("laws of ")) return at(name);
    const known = [...at("laws").children].find((one) => one.dataset.part === name);
    if (known) return known;
    const made = document.createElement("div");
    made.dataset.part = name;
    at("laws").append(made);
    return made;
  }

  function filter() {
    const sought = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...document.querySelectorAll("#runs tbody tr")];
    for (const row of rows) {
      const shown = row.textContent.toLowerCase();
      const chosen = Object.entries(choices).every(([name, choice]) => !choice.value || row.dataset[name] === choice.value);
      row.classList.toggle("hidden", !(chosen && sought.every((word) => shown.includes(word))));
    }
    const counted = at("counted");
    if (counted) counted.textContent = String(rows.filter((row) => !row.classList.contains("hidden")).length);
  }

  function offer() {
    for (const [name, choice] of Object.entries(choices)) {
      const values = [...new Set([...document.querySelectorAll("#runs tbody tr")].map((row) => row.dataset[name]))].sort();
      const known = [...choice.options].slice(1).map((option) => option.value);
      for (const value of values) if (!known.includes(value)) choice.add(new Option(value, value));
    }
  }

  function show({ name, html, charts }) {
    const frame = frameOf(name);
    const open = [...frame.querySelectorAll("details")].map((one) => one.open);
    const scrolled = [...frame.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
    for (const old of frame.querySelectorAll(".chart")) Plotly.purge(old);
    frame.innerHTML = html;
    frame.querySelectorAll("details").forEach((one, k) => { one.open = open[k] ?? false; });
    frame.querySelectorAll(".scroll").forEach((one, k) => { [one.scrollLeft, one.scrollTop] = scrolled[k] ?? [0, 0]; });
    if (charts.length) isoflop.draw(charts, frame.querySelector(".chart").id.replace(/-\d+$/, ""));
    if (name === "runs") {
      const table = frame.querySelector("table");
      isoflop.sortable(table, (k, up) => { sorted = [table.querySelectorAll("th")[k].textContent, up]; });
      const heads = [...table.querySelectorAll("th")].map((head) => head.textContent);
      if (sorted && heads.includes(sorted[0])) isoflop.sort(table, heads.indexOf(sorted[0]), sorted[1]);
      offer();
      filter();
    }
    isoflop.hints();
  }

  words.addEventListener("input", filter);
  for (const choice of Object.values(choices)) choice.addEventListener("change", filter);
  const footer = at("connection"), calm = footer.textContent;
  const events = new EventSource("events");
  events.onmessage = (event) => { show(JSON.parse(event.data)); document.body.classList.add("ready"); };
  events.onopen = () => { footer.textContent = calm; document.body.classList.remove("lost"); };
  events.onerror = () => { footer.textContent = "The server does not answer; this is what it said last."; document.body.classList.add("lost"); };
})();
