-- Where a run's container is: at the seat and the engine of the worker that claimed it. Another worker of that name, on another
-- host or engine, can't tell by its own engine's silence what became of it.
alter table runs
    add seat   text,
    add engine text;
