// Runs the network of an exported page as the page does, outside a browser: the page's own ONNX Runtime Web,
// WebAssembly and model. Usage: node export_check.mjs PAGE INPUTS SIZE ANSWERS
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import zlib from "node:zlib";

const [page, inputs, size, answers] = process.argv.slice(2);
const html = fs.readFileSync(page, "utf8");

function block(id) {
  const found = html.match(new RegExp(`<script type="application/octet-stream" id="${id}">([^<]*)</script>`));
  return zlib.gunzipSync(Buffer.from(found[1], "base64"));
}

const runtime = path.join(path.dirname(inputs), "runtime.mjs");
fs.writeFileSync(runtime, block("runtime"));
const ort = await import(pathToFileURL(runtime));
ort.env.wasm.wasmBinary = block("wasm");
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(block("model"));

const side = Number(size);
const shape = [1, 3, side, side];
const content = fs.readFileSync(inputs);
const floats = new Float32Array(content.buffer, content.byteOffset, content.byteLength / 4);
const faces = floats.length / (3 * side * side);
const found = [];
for (let face = 0; face < faces; face++) {
  const pixels = floats.slice(face * 3 * side * side, (face + 1) * 3 * side * side);
  const outputs = await session.run({ images: new ort.Tensor("float32", pixels, shape) });
  found.push(Buffer.from(new Float32Array(outputs.pmf.data).buffer));
}
fs.writeFileSync(answers, Buffer.concat(found));
