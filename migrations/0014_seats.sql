-- What may be noted only once carries its own name: a report whose answer was lost is sent again.
alter table audit add once text constraint audit_once unique;

-- Which of those that go by a worker's name it is: a random word kept in the folder of the one that registered last.
alter table workers add seat text;
