/** Plays the frames of a clip in its sampler's node while they are sampled. The server sends them: loom.preview. */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";

import { nodesOf } from "./nodes.js";

const SETTING = "AnimateDiffLoom.MovingPreview";
const HEIGHT = 200;
const USUAL_RATE = 8; // frames per second of AnimateDiff's own examples

/** Players by node. */
const players = new Map();

/** The frame rate at which the workflow saves or plays its frames. */
function frameRate() {
  const widgets = app.rootGraph.nodes.flatMap((node) => node.widgets ?? []);
  const rate = widgets.find(({ name, value }) => /^(fps|frame_rate)$/.test(name) && value > 0);
  return rate?.value ?? USUAL_RATE;
}

class Player {
  constructor(node) {
    this.node = node;
    this.size = [...node.size];
    this.canvas = document.createElement("canvas");
    this.canvas.className = "loom-preview";
    this.canvas.style.cssText = "width:100%;height:100%;object-fit:contain;display:block;background:#000";
    const options = { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT };
    this.widget = node.addDOMWidget("moving_preview", "loom_preview", this.canvas, options);
    this.widget.serialize = false;
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    this.grown = node.size[1];
    const step = (now) => {
      this.draw(now);
      this.timer = requestAnimationFrame(step);
    };
    this.timer = requestAnimationFrame(step);
  }

  show(film, frames, rate) {
    Object.assign(this, { film, frames, rate });
    this.canvas.width = film.width;
    this.canvas.height = film.height / frames;
    this.drawn = -1;
  }

  draw(now) {
    if (!this.film) return;
    const frame = Math.floor((now / 1000) * this.rate) % this.frames;
    if (frame === this.drawn) return;
    const { width, height } = this.canvas;
    this.canvas.getContext("2d").drawImage(this.film, 0, frame * height, width, height, 0, 0, width, height);
    this.drawn = frame;
  }

  remove() {
    cancelAnimationFrame(this.timer);
    if (this.node.widgets?.includes(this.widget)) this.node.removeWidget(this.widget);
    if (this.node.size[1] === this.grown) this.node.setSize([this.node.size[0], this.size[1]]);
  }
}

function removePlayers() {
  for (const player of players.values()) player.remove();
  players.clear();
}

async function play({ node: id, frames, total, film: bytes }) {
  if (!isOn) return;
  const film = new Image();
  film.src = `data:image/jpeg;base64,${bytes}`;
  await film.decode();
  const rate = (frameRate() * frames) / total;
  for (const node of nodesOf(id)) {
    if (!players.has(node)) players.set(node, new Player(node));
    players.get(node).show(film, frames, rate);
  }
}

let isOn = true;

/** What the server was told last: it makes pictures only for those who look at them. */
let told = "";

function tellServer() {
  const wish = JSON.stringify({ client: api.clientId, on: isOn });
  if (!api.clientId || wish === told) return;
  told = wish;
  api.fetchApi("/loom/preview", { method: "POST", body: wish });
}

app.registerExtension({
  name: "AnimateDiffLoom.Preview",

  settings: [
    {
      id: SETTING,
      category: ["AnimateDiff Loom", "Sampling", "Moving preview"],
      name: "Play the frames in the sampler's node while they are sampled",
      tooltip: "Used where ComfyUI's own live preview is off.",
      type: "boolean",
      defaultValue: true,
      onChange(value) {
        isOn = value;
        tellServer();
      },
    },
  ],

  setup() {
    api.addEventListener("loom.preview", ({ detail }) => play(detail));
    for (const end of ["execution_success", "execution_error", "execution_interrupted"]) api.addEventListener(end, removePlayers);
    api.addEventListener("status", tellServer);
    api.addEventListener("reconnected", () => {
      told = ""; // a server that was started anew knows nobody
      tellServer();
    });
    tellServer();
  },
});
