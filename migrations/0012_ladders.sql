-- The superuser says how long each rung of an agent's ladder is given.

grant update (sigint_ms, sigterm_ms, sigkill_ms, linger_ms) on agents to signalbox_web;
