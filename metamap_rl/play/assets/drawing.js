// A scene on a 2-D canvas: projection, ground, convex shapes from far to near, joints to click.

const Drawing = (() => {
  const { add, minus, times, dot, cross, rotate, multiply } = Kinematics;
  const FIELD = Math.PI / 5, NEAR = 0.01, LIGHT = (v => times(v, 1 / Math.hypot(...v)))([-0.35, -0.6, 0.8]);
  const CONDITIONS = { weak: [238, 130, 98], broken: [207, 35, 51], flipped: [222, 30, 110] };
  const SIGNS = { weak: "½", broken: "×", flipped: "⇄" };

  function camera(view, target, orbit, width, height) {
    const az = orbit.azimuth, el = orbit.elevation;
    const forward = [Math.cos(el) * Math.cos(az), Math.cos(el) * Math.sin(az), Math.sin(el)];
    const right = [Math.sin(az), -Math.cos(az), 0], up = cross(right, forward);
    const half = view.half_height * Math.max(1, 1.25 * height / width);
    const distance = half / Math.tan(FIELD / 2);
    const focal = height / 2 / Math.tan(FIELD / 2);
    const eye = minus(target, times(forward, distance));
    const project = p => {
      const d = minus(p, eye), z = dot(d, forward), s = focal / Math.max(z, NEAR);
      return [width / 2 + dot(d, right) * s, height / 2 - dot(d, up) * s, z, s];
    };
    return { project, eye, forward, focal, el, width, height };
  }

  function start(view) {
    const degree = Math.PI / 180;
    return view.above ? { azimuth: 90 * degree, elevation: -89 * degree }
      : { azimuth: 80 * degree, elevation: (view.flies ? -18 : -10) * degree };
  }

  function target(view, poses) {
    const found = view.centre.slice();
    if (!view.root) return found;
    found[0] = poses[view.root].pos[0];
    if (view.sideways) found[1] = poses[view.root].pos[1];
    if (view.flies) found[2] = poses[view.root].pos[2];
    return found;
  }

  function polygon(pen, points, colour) {
    pen.fillStyle = colour;
    pen.beginPath();
    points.forEach((p, index) => index ? pen.lineTo(p[0], p[1]) : pen.moveTo(p[0], p[1]));
    pen.closePath();
    pen.fill();
  }

  function ground(pen, cam, view, centre, height, colours) {
    const horizon = Math.max(0, cam.height / 2 - cam.focal * Math.tan(-cam.el));
    const sky = pen.createLinearGradient(0, 0, 0, Math.max(1, horizon));
    sky.addColorStop(0, colours.sky);
    sky.addColorStop(1, colours.horizon);
    pen.fillStyle = sky;
    pen.fillRect(0, 0, cam.width, cam.height);
    if (height === null) return;
    pen.fillStyle = colours.tileB;
    pen.fillRect(0, view.above ? 0 : horizon, cam.width, cam.height);
    const size = 2 ** Math.round(Math.log2(view.half_height / 2)), reach = 11;
    const i0 = Math.floor(centre[0] / size), j0 = Math.floor(centre[1] / size);
    for (let i = i0 - reach; i <= i0 + reach; i++) {
      for (let j = j0 - reach; j <= j0 + reach; j++) {
        if ((i + j) % 2) continue;
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]].map(([x, y]) => cam.project([x * size, y * size, height]));
        if (corners.some(p => p[2] <= 10 * NEAR) || corners.every(p => p[0] < 0) || corners.every(p => p[0] > cam.width)) continue;
        if (corners.every(p => p[1] > cam.height)) continue;
        pen.globalAlpha = Math.max(0, 1 - Math.hypot(i - i0, j - j0) / reach);
        polygon(pen, corners, colours.tileA);
      }
    }
    pen.globalAlpha = 1;
  }

  function shade(colour, k) {
    const [r, g, b] = colour.map(one => Math.round(Math.min(255, one * k)));
    return `rgb(${r},${g},${b})`;
  }

  // corners and faces of shapes, in units of their sizes; made once
  const BOX = (() => {
    const corners = [];
    for (let n = 0; n < 8; n++) corners.push([n & 1 ? 1 : -1, n & 2 ? 1 : -1, n & 4 ? 1 : -1]);
    return { corners, faces: [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]] };
  })();
  const PRISM = (() => {
    const sides = 14, corners = [], faces = [[], []];
    for (let n = 0; n < sides; n++) {
      const a = 2 * Math.PI * n / sides;
      corners.push([Math.cos(a), Math.sin(a), -1], [Math.cos(a), Math.sin(a), 1]);
      const next = (n + 1) % sides;
      faces.push([2 * n, 2 * next, 2 * next + 1, 2 * n + 1]);
      faces[0].unshift(2 * n);
      faces[1].push(2 * n + 1);
    }
    return { corners, faces };
  })();
  const BALL = (() => {
    const rows = 6, sides = 10, corners = [], faces = [];
    for (let r = 0; r <= rows; r++) {
      for (let n = 0; n < sides; n++) {
        const lat = Math.PI * (r / rows - 0.5), lon = 2 * Math.PI * n / sides;
        corners.push([Math.cos(lat) * Math.cos(lon), Math.cos(lat) * Math.sin(lon), Math.sin(lat)]);
        const next = (n + 1) % sides;
        if (r < rows) faces.push([r * sides + n, r * sides + next, (r + 1) * sides + next, (r + 1) * sides + n]);
      }
    }
    return { corners, faces };
  })();

  function solid(geom, scene) {
    const [a, b, c] = geom.size;
    if (geom.kind === "box") return [BOX, [a, b, c]];
    if (geom.kind === "cylinder") return [PRISM, [a, a, b]];
    if (geom.kind === "ellipsoid") return [BALL, [a, b, c]];
    return [scene.meshes[geom.mesh], [1, 1, 1]];
  }

  function drawSolid(pen, cam, item, scene) {
    const [shape, scale] = solid(item.geom, scene);
    const world = shape.corners.map(p => add(item.pos, rotate(item.quat, [p[0] * scale[0], p[1] * scale[1], p[2] * scale[2]])));
    const seen = world.map(cam.project);
    for (const face of shape.faces) {
      const [p, q, r] = [world[face[0]], world[face[1]], world[face[2]]];
      let normal = cross(minus(q, p), minus(r, p));
      const size = Math.hypot(...normal);
      if (size < 1e-12 || dot(normal, minus(p, cam.eye)) >= 0) continue;
      normal = times(normal, 1 / size);
      polygon(pen, face.map(index => seen[index]), shade(item.colour, 0.62 + 0.5 * Math.max(0, dot(normal, LIGHT))));
    }
  }

  function drawRound(pen, cam, item) {
    const radius = item.geom.size[0], half = item.geom.kind === "capsule" ? item.geom.size[1] : 0;
    const axis = times(rotate(item.quat, [0, 0, 1]), half);
    const ends = [cam.project(add(item.pos, axis)), cam.project(minus(item.pos, axis))];
    const wide = radius * (ends[0][3] + ends[1][3]);
    pen.lineCap = "round";
    const line = (colour, width, dx, dy) => {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.beginPath();
      pen.moveTo(ends[0][0] + dx, ends[0][1] + dy);
      pen.lineTo(ends[1][0] + dx + 0.01, ends[1][1] + dy);
      pen.stroke();
    };
    line(shade(item.colour, 0.45), wide + 1.5, 0, 0);
    line(shade(item.colour, 0.86), wide, 0, 0);
    line(shade(item.colour, 1.06), wide * 0.62, -wide * 0.05, -wide * 0.13);
  }

  function items(scene, poses, cam, bodies) {
    const found = [];
    for (const geom of scene.geoms) {
      if (geom.kind === "plane") continue;
      const pose = poses[geom.body], condition = bodies[geom.body];
      const pos = add(pose.pos, rotate(pose.quat, geom.pos)), quat = multiply(pose.quat, geom.quat);
      const colour = CONDITIONS[condition] || geom.colour;
      found.push({ geom, pos, quat, colour, depth: cam.project(pos)[2] });
    }
    return found.sort((one, other) => other.depth - one.depth);
  }

  function goal(pen, cam, task) {
    if (!("goal_radius" in task && "goal_angle" in task)) return;
    const [x, y] = [task.goal_radius * Math.cos(task.goal_angle), task.goal_radius * Math.sin(task.goal_angle)];
    const points = [...Array(24).keys()].map(n => cam.project([x + 0.3 * Math.cos(n * Math.PI / 12), y + 0.3 * Math.sin(n * Math.PI / 12), 0.01]));
    if (points.some(p => p[2] <= NEAR)) return;
    pen.globalAlpha = 0.55;
    polygon(pen, points, shade(CONDITIONS.broken, 1));
    pen.globalAlpha = 1;
  }

  // the wanted direction of motion, from below the robot
  function arrow(pen, cam, view, centre, angle) {
    const size = 0.9 * view.half_height, along = [Math.cos(angle), Math.sin(angle), 0], across = [-along[1], along[0], 0];
    const at = (forth, aside) => cam.project(add([centre[0], centre[1], 0.01], add(times(along, forth * size), times(across, aside * size))));
    const points = [at(0, 0.03), at(0.8, 0.03), at(0.8, 0.1), at(1, 0), at(0.8, -0.1), at(0.8, -0.03), at(0, -0.03)];
    if (points.some(p => p[2] <= NEAR)) return;
    pen.globalAlpha = 0.75;
    polygon(pen, points, shade(CONDITIONS.broken, 1));
    pen.globalAlpha = 1;
  }

  function marks(pen, joints, conditions, hovered) {
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (const joint of joints) {
      const condition = conditions[joint.name], sign = SIGNS[condition];
      const [x, y] = joint.at, radius = sign ? 9 : hovered === joint.name ? 7 : 4;
      pen.fillStyle = sign ? shade(CONDITIONS[condition], 1) : "rgba(255,255,255,0.85)";
      pen.strokeStyle = sign ? "#fff" : "rgba(30,40,50,0.7)";
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.fill();
      pen.stroke();
      pen.fillStyle = "#fff";
      pen.font = "bold 12px system-ui, sans-serif";
      if (sign) pen.fillText(sign, x, y + 0.5);
      if (hovered !== joint.name) continue;
      const text = `${joint.name}: ${condition}`, wide = pen.measureText(text).width + 14;
      pen.fillStyle = "rgba(20,24,30,0.9)";
      pen.fillRect(x - wide / 2, y - 36, wide, 20);
      pen.fillStyle = "#fff";
      pen.fillText(text, x, y - 26);
    }
  }

  // draws one robot; returns where its joints are on the canvas
  function draw(pen, width, height, shown) {
    const { scene, q, view, orbit, colours, joints, conditions, task, heading, hovered } = shown;
    const poses = Kinematics.poses(scene, q);
    const centre = target(view, poses);
    const cam = camera(view, centre, orbit, width, height);
    const plane = scene.geoms.find(geom => geom.kind === "plane");
    ground(pen, cam, view, centre, plane && !view.flies ? plane.pos[2] : null, colours);
    if (!view.above) goal(pen, cam, task);
    if (heading) arrow(pen, cam, view, centre, heading === "sign" ? (task.direction < 0 ? Math.PI : 0) : task.direction);
    const bodies = {};
    for (const joint of joints) if (joint.body && conditions[joint.name] !== "healthy") bodies[joint.body] = conditions[joint.name];
    for (const item of items(scene, poses, cam, bodies)) {
      if (item.geom.kind === "capsule" || item.geom.kind === "sphere") drawRound(pen, cam, item);
      else drawSolid(pen, cam, item, scene);
    }
    const placed = joints.filter(joint => joint.body).map(joint => {
      const pose = poses[joint.body];
      return { name: joint.name, at: cam.project(add(pose.pos, rotate(pose.quat, joint.place))) };
    });
    marks(pen, placed, conditions, hovered);
    return placed;
  }

  return { draw, start };
})();
