"""How a report looks: one style sheet, light and dark."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --edge: #dfe3e8;
  --ink: #16202c; --muted: #566374; --grid: #e3e7ec;
  --line: #1f6fd1; --other: #748397; --good: #157f4c; --bad: #c62f3b;
  --warn: #a05c00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f141a; --card: #171e26; --edge: #2a3440;
    --ink: #e7edf4; --muted: #9dabbb; --grid: #2a343f;
    --line: #62a8ff; --other: #7f8c9c; --good: #4cc38a; --bad: #ff7b83;
    --warn: #f0b04f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans",
    sans-serif;
  overflow-wrap: anywhere;
}
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0; }
h2 { font-size: 17px; margin: 0 0 2px; }
h3 { font-size: 14px; margin: 18px 0 4px; }
p { margin: 0 0 8px; }
.path, .why { color: var(--muted); }
.why { font-size: 13px; }
.answers {
  display: grid; gap: 14px; margin: 20px 0;
  grid-template-columns: repeat(auto-fit, minmax(240px, 1fr));
}
section, .answers > div {
  background: var(--card); border: 1px solid var(--edge);
  border-radius: 10px; padding: 16px 18px;
}
section { margin: 0 0 16px; }
.answers > div { border-top: 3px solid var(--edge); }
.answers > .good { border-top-color: var(--good); }
.answers > .bad { border-top-color: var(--bad); }
.answers dt, .label { color: var(--muted); font-size: 13px; }
.answers dl, .answers dd { margin: 0; }
.answers .answer { font-size: 18px; font-weight: 600; line-height: 1.3;
  text-wrap: balance; }
.answers .more { font-size: 13px; color: var(--muted); margin-top: 4px; }
.table { overflow-x: auto; }
.picture svg { display: block; width: 100%; height: auto; }
.picture .narrow { display: none; max-width: 560px; }
@media (max-width: 720px) {
  .picture .broad { display: none; }
  .picture .narrow { display: block; }
}
.halves { display: grid; gap: 0 20px;
  grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); }
.halves > div { min-width: 0; }
.picture svg * { stroke-linejoin: round; stroke-linecap: butt; }
.picture svg text { font-family: inherit !important; }
.keys {
  display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 2px 0 6px;
  padding: 0; list-style: none; font-size: 13px; color: var(--muted);
}
.keys svg { width: 14px; height: 14px; vertical-align: -2px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td {
  text-align: left; padding: 5px 12px 5px 0; vertical-align: top;
  border-bottom: 1px solid var(--edge);
}
th { color: var(--muted); font-weight: 500; white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
.n { text-align: right; white-space: nowrap; font-variant-numeric:
  tabular-nums; }
.t { white-space: nowrap; font-variant-numeric: tabular-nums; }
.w { min-width: 12em; }
.score { white-space: nowrap; }
.name { font-weight: 500; min-width: 13em; }
.flag {
  display: inline-block; border: 1px solid var(--edge); border-radius: 999px;
  padding: 0 8px; margin: 0 4px 2px 0; font-size: 12px;
}
.good .flag, .flag.good { color: var(--good); border-color: currentColor; }
.flag.bad, td.bad { color: var(--bad); border-color: currentColor; }
td.bad { border-color: var(--edge); }
.flag.warn, td.warn { color: var(--warn); }
footer { color: var(--muted); font-size: 13px; }
"""
