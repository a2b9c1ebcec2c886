// Where the bodies of a scene are, from its positions qpos: MuJoCo's mj_kinematics. Quaternions are w, x, y, z.

const Kinematics = (() => {
  const multiply = (a, b) => [
    a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
    a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
    a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
    a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
  ];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
  const minus = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
  const times = (a, k) => [a[0] * k, a[1] * k, a[2] * k];

  function rotate(q, v) {
    const axis = [q[1], q[2], q[3]];
    const t = times(cross(axis, v), 2);
    return add(add(v, times(t, q[0])), cross(axis, t));
  }

  function normal(q) {
    const size = Math.hypot(...q) || 1;
    return q.map(one => one / size);
  }

  function turn(axis, angle) {
    const s = Math.sin(angle / 2);
    return [Math.cos(angle / 2), axis[0] * s, axis[1] * s, axis[2] * s];
  }

  function place(body, parent, q) {
    const free = body.joints[0];
    if (free && free.kind === "free") {
      return { pos: q.slice(free.at, free.at + 3), quat: normal(q.slice(free.at + 3, free.at + 7)) };
    }
    let pos = add(parent.pos, rotate(parent.quat, body.pos));
    let quat = multiply(parent.quat, body.quat);
    for (const joint of body.joints) {
      if (joint.kind === "slide") {
        pos = add(pos, times(rotate(quat, joint.axis), q[joint.at] - joint.zero));
        continue;
      }
      const anchor = add(pos, rotate(quat, joint.pos));
      const own = joint.kind === "ball" ? normal(q.slice(joint.at, joint.at + 4)) : turn(joint.axis, q[joint.at] - joint.zero);
      quat = normal(multiply(quat, own));
      pos = minus(anchor, rotate(quat, joint.pos));
    }
    return { pos, quat };
  }

  function poses(scene, q) {
    const found = [{ pos: [0, 0, 0], quat: [1, 0, 0, 0] }];
    for (let index = 1; index < scene.bodies.length; index++) {
      const body = scene.bodies[index];
      found.push(place(body, found[body.parent], q));
    }
    return found;
  }

  return { poses, rotate, multiply, add, minus, times, dot, cross };
})();
