// The calls, from openapi.json.

const find = (id) => document.getElementById(id);
const make = (tag, text, parent) => { const node = document.createElement(tag); node.textContent = text; if (parent) parent.append(node); return node; };
const base = new URL(".", location.href).href.replace(/\/$/, "");
find("curl").textContent = `curl -H "Authorization: Bearer $(cat ~/.agesearch/token)" -H "Content-Type: image/jpeg" --data-binary @photo.jpg ${base}/v1/predict`;

function describe(path, method, call) {
  const calls = find("calls"), head = make("p", "", calls), table = make("table", "", calls);
  make("code", `${method.toUpperCase()} ${path}`, head);
  head.append(` ${call.summary}${call.security ? " (token)" : ""}`);
  const row = (name, text) => { const line = make("tr", "", table); make("td", name, line); make("td", text, line); };
  for (const parameter of call.parameters || [])
    row(parameter.in === "query" ? `?${parameter.name}=` : parameter.name, [(parameter.schema.enum || []).join(" | "), parameter.description].filter(Boolean).join(": "));
  if (call.requestBody) row("body", Object.keys(call.requestBody.content).join(" or "));
  for (const [status, response] of Object.entries(call.responses)) row(status, response.description);
}

fetch("openapi.json").then((response) => response.json()).then((document_) => {
  find("calls").replaceChildren();
  for (const [path, methods] of Object.entries(document_.paths))
    for (const [method, call] of Object.entries(methods)) describe(path, method, call);
}).catch((error) => { find("calls").textContent = `openapi.json could not be read: ${error.message}`; });
