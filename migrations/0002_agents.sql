-- Agents: named recipes for runs. Null means what the worker or the CLI does by default.

create table agents (
    id          bigint generated always as identity primary key,
    name        text not null constraint agents_name unique
                constraint agents_name_form check (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    about       text not null,
    image       text,
    model       text,
    memory_mib  bigint not null constraint agents_memory check (memory_mib between 256 and 65536),
    milli_cpus  bigint not null constraint agents_cpus check (milli_cpus between 100 and 64000),
    pids        bigint not null constraint agents_pids check (pids between 32 and 32768),
    time_s      bigint not null constraint agents_time check (time_s between 1 and 604800)
);

insert into agents (name, about, memory_mib, milli_cpus, pids, time_s)
values ('claude-code', 'Claude Code with its own tools, in an empty workspace.', 2048, 2000, 512, 14400);
