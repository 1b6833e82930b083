"use strict";
(() => {
  const { charts } = JSON.parse(document.getElementById("charts").textContent);
  const drawn = isoflop.draw(charts, "chart");
  const buttons = [...document.querySelectorAll(".filter button[data-group]")];
  const rows = [...document.querySelectorAll("tr[data-group]")];
  const counted = document.getElementById("counted");

  function show() {
    const hidden = new Set(buttons.filter((b) => b.getAttribute("aria-pressed") === "false").map((b) => b.dataset.group));
    charts.forEach((chart, k) => {
      const visible = chart.data.map((trace) => !hidden.has(trace.meta));
      Plotly.restyle(`chart-${k}`, { visible });
    });
    for (const row of rows) row.classList.toggle("hidden", hidden.has(row.dataset.group));
    if (counted) counted.textContent = String(rows.filter((row) => !row.classList.contains("hidden")).length);
  }

  // A click shows this model alone, as does another click on the only one shown bring all back; with a modifier it toggles one.
  function press(button, one) {
    if (one) button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
    else {
      const alone = buttons.every((b) => (b.getAttribute("aria-pressed") === "true") === (b === button));
      for (const b of buttons) b.setAttribute("aria-pressed", String(alone || b === button));
    }
    show();
  }
  for (const button of buttons) button.addEventListener("click", (e) => press(button, e.shiftKey || e.ctrlKey || e.metaKey));
  const all = document.getElementById("all");
  if (all) all.addEventListener("click", () => { for (const b of buttons) b.setAttribute("aria-pressed", "true"); show(); });

  document.querySelectorAll("table.sortable").forEach((table) => isoflop.sortable(table));
  isoflop.hints();
  drawn.then(() => document.body.classList.add("ready"));
})();
