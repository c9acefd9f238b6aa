"""Records the answers to each target: walks of ListJobs, and descriptions. It is independent of the exporter's counting.

A walk consists of the answers from a ListJobs request without nextToken to an answer without one. A walk over open jobs
has one such sequence for each open status; a walk over all jobs has one, or one for each ended status of the scope. A
job counts once, with its last summary in the walk. `aws_iot_jobs_collector_last_success_timestamp_seconds` identifies
the walk that is shown: the last one that was complete at that time.
"""

import collections
import itertools
import re

KNOWN_STATUSES = ("IN_PROGRESS", "SCHEDULED", "DELETION_IN_PROGRESS", "COMPLETED", "CANCELED")
OPEN = KNOWN_STATUSES[:3]
KNOWN_SELECTIONS = ("SNAPSHOT", "CONTINUOUS")
EXECUTIONS = {
    "numberOfQueuedThings": "QUEUED",
    "numberOfInProgressThings": "IN_PROGRESS",
    "numberOfSucceededThings": "SUCCEEDED",
    "numberOfFailedThings": "FAILED",
    "numberOfTimedOutThings": "TIMED_OUT",
    "numberOfRejectedThings": "REJECTED",
    "numberOfRemovedThings": "REMOVED",
    "numberOfCanceledThings": "CANCELED",
}
# A request with a slower answer can have timed out.
LONG = 2.5
# How long walks and descriptions are kept: longer than any data is shown.
KEPT = 150.0
# The number of answers that are kept for a job: more than arrive while the slowest client reads.
MOST_ANSWERS = 100

Job = collections.namedtuple("Job", "status selection created updated completed")


class Answer(collections.namedtuple("Answer", "at job_id job groups executions")):
    """An answer of DescribeJob."""

    def is_of(self, second):
        """Whether it may be about the job that was created in this second; either time can be unknown."""
        return second is None or self.job.created is None or self.job.created // 1000 == second


class Unusable(Exception):
    """An invalid answer, which a client must not use."""


def milliseconds(seconds):
    """A whole number of milliseconds, rounded to three digits as AWS does."""
    return None if seconds is None else round(seconds * 1000)


def read_page(page):
    """The jobs of a page, each with its id, and its token."""
    jobs, token = (page.get("jobs"), page.get("nextToken")) if isinstance(page, dict) else (None, None)
    if not isinstance(jobs, list) or not isinstance(token, (str, type(None))):
        raise Unusable("no page")
    return [read_job(job) for job in jobs], token or None


def read_job(job):
    if not isinstance(job, dict):
        raise Unusable("no job")
    texts = [job.get(field) for field in ("jobId", "jobArn", "status", "targetSelection")]
    times = [job.get(field) for field in ("createdAt", "lastUpdatedAt", "completedAt")]
    concurrent = job.get("isConcurrent")
    is_time = lambda time: time is None or isinstance(time, (int, float)) and not isinstance(time, bool)
    if not all(isinstance(text, (str, type(None))) for text in texts) or not all(map(is_time, times)):
        raise Unusable("wrong types")
    if concurrent not in (None, True, False) or isinstance(concurrent, int) and not isinstance(concurrent, bool):
        raise Unusable("wrong types")
    job_id, arn, status, selection = texts
    # The ARN ends with the id, for summaries without one.
    job_id = job_id or (arn or "").partition(":job/")[2] or None
    return job_id, Job(status, selection, *map(milliseconds, times))


def read_description(answer, asked):
    """A job, its groups and its executions."""
    if not isinstance(answer, dict) or not isinstance(answer.get("job"), dict):
        raise Unusable("no description")
    fields = answer["job"]
    job_id, job = read_job(fields)
    if job_id != asked:
        raise Unusable("another job")
    details = fields.get("jobProcessDetails") or {}
    executions = {state: details[field] for field, state in EXECUTIONS.items() if details.get(field) is not None}
    return job, groups_of(fields.get("targets")), executions


def groups_of(targets):
    """The thing groups of a job; None if they are unknown."""
    if not targets:
        return None
    return frozenset({target.partition(":thinggroup/")[2] for target in targets} - {""} or {"<none>"})


def word(text):
    if text is None:
        return "<unknown>"
    return text if re.match(r"[A-Za-z0-9_.]{1,64}\Z", text) else "<other>"


class Scope:
    """The jobs that a target monitors."""

    def __init__(self, status=(), target_selection=None, thing_group_name=None):
        self.statuses, self.selection, self.group = tuple(status), target_selection, thing_group_name

    def configuration(self):
        keys = {"status": list(self.statuses), "target_selection": self.selection, "thing_group_name": self.group}
        return {key: value for key, value in keys.items() if value}

    def open_statuses(self):
        """AWS omits SCHEDULED jobs when a group filter is set."""
        statuses = [status for status in self.statuses or KNOWN_STATUSES if status in OPEN]
        return [status for status in statuses if not (self.group and status == "SCHEDULED")]

    def full_queries(self):
        """The statuses that a full walk requests; None for all at once."""
        return [status for status in self.statuses if status not in OPEN] if self.statuses else [None]

    def open_pairs(self):
        """The pairs that are 0 without jobs."""
        return [(status, selection) for status in self.open_statuses() for selection in self.selections()]

    def selections(self):
        return [self.selection] if self.selection else list(KNOWN_SELECTIONS)


class Walk:
    """The answers for one run of a listing."""

    def __init__(self, stages, index, begin, is_open):
        self.stages, self.index, self.begin, self.is_open = stages, index, begin, is_open
        self.end = None
        self.pages = []
        self.tokens = collections.defaultdict(set)
        self.expected = (0, None)

    def serves(self, key):
        return key == self.expected or bool(self.pages) and key == self.pages[-1][0]

    def take(self, key, jobs, token, at):
        """Adds a page. A repeated page was not received the first time. Returns whether the page is valid."""
        stage = key[0]
        if self.pages and self.pages[-1][0] == key:
            _, _, before = self.pages.pop()
            self.tokens[stage].discard(before)
        self.pages.append((key, jobs, token))
        self.expected = self.end = None
        if token in self.tokens[stage]:
            return False
        if token:
            self.tokens[stage].add(token)
            self.expected = (stage, token)
        elif stage + 1 < len(self.stages):
            self.expected = (stage + 1, None)
        else:
            self.end = at
            self.count()
        return True

    def count(self):
        """The jobs with their last summaries."""
        self.jobs, self.malformed = {}, 0
        for job_id, job in itertools.chain.from_iterable(jobs for _, jobs, _ in self.pages):
            self.malformed += job_id is None or job.status is None or job.selection is None
            if job_id is None:
                continue
            if self.is_open and job.status not in OPEN:
                self.jobs.pop(job_id, None)
            else:
                self.jobs[job_id] = job
        self.size = len(self.pages)

    def forget_pages(self):
        """Forgets the tokens: no page is requested again."""
        self.pages = [(key, (), token) for key, _, token in self.pages]


class Listing:
    """The walks of one listing of a target."""

    def __init__(self, stages, is_open):
        self.stages, self.is_open = stages, is_open
        self.walks = collections.deque()
        self.current = None
        self.begun = self.completed = self.orphans = 0

    def is_asked_for(self, status, token, at):
        """The walk of a request, and its position in it."""
        key = (self.stages.index(status), token)
        if key == (0, None):
            if self.current:
                self.current.forget_pages()
            self.current = Walk(self.stages, self.begun, at, self.is_open)
            self.begun += 1
        elif not self.current or not self.current.serves(key):
            self.orphans += 1
            return None, key
        return self.current, key

    def is_complete(self, walk, at):
        self.completed += 1
        if walk in self.walks:
            self.walks.remove(walk)
        self.walks.append(walk)
        while len(self.walks) > 5 and self.walks[0].end < at - KEPT:
            self.walks.popleft()

    def shown_at(self, published):
        """The walk of the run that ended at this time, in milliseconds."""
        for walk in reversed(self.walks):
            if int(walk.end * 1000) <= published:
                return walk
        return None

    def complete_by(self, at):
        """The newest walk that was complete at this time."""
        return next((walk for walk in reversed(self.walks) if walk.end <= at), None)


class Target:
    """The answers to one target."""

    def __init__(self, name, region, scope, describes):
        self.name, self.region, self.scope, self.describes = name, region, scope, describes
        self.open, self.full = Listing(scope.open_statuses(), True), Listing(scope.full_queries(), False)
        # Requests without an answer, with their start.
        self.waiting = {}
        # The times of faults.
        self.fault_times = collections.deque(maxlen=20_000)
        self.described = {}
        # When each job was last listed as open, and when it left the list.
        self.seen_open, self.left = {}, {}
        self.pruned = 0.0
        # When the target started without data.
        self.since = 0.0

    def listings(self):
        return {"open_jobs": self.open, **({"all_jobs": self.full} if self.full.stages else {})}

    def record_fault(self, at):
        self.fault_times.append(at)

    def had_fault(self, since, until):
        """Whether a fault occurred in this span. A long wait counts as a fault."""
        waiting = (at + LONG for at in self.waiting.values())
        return any(since <= at <= until for at in itertools.chain(self.fault_times, waiting))

    def page_is_asked_for(self, status, token, at):
        listing = self.open if status in self.open.stages else self.full
        return (listing, *listing.is_asked_for(status, token, at))

    def page_is_served(self, listing, walk, key, page, at):
        if walk is None or walk is not listing.current:
            return
        try:
            jobs, token = read_page(page)
        except Unusable:
            self.record_fault(at)
            return
        self.seen_open.update((job_id, at) for job_id, job in jobs if job.status in OPEN)
        if not walk.take(key, jobs, token, at):
            self.record_fault(at)
        if walk.end:
            if listing is self.open:
                before = listing.walks[-1] if listing.walks else None
                before = before.jobs if before and before.begin >= self.since else {}
                self.left.update((job_id, at) for job_id in before if job_id not in walk.jobs)
                self.left = {job_id: since for job_id, since in self.left.items() if job_id not in walk.jobs}
            listing.is_complete(walk, at)
        if at - self.pruned > KEPT:
            self.prune(at)

    def prune(self, at):
        self.pruned = at
        is_recent = lambda time: at - time < 3 * KEPT
        self.described = {job: answers for job, answers in self.described.items() if is_recent(answers[-1].at)}
        self.seen_open = {job: time for job, time in self.seen_open.items() if is_recent(time)}
        self.left = {job: time for job, time in self.left.items() if is_recent(time)}

    def description_is_served(self, job_id, answer, at):
        """`answer` is None if the job does not exist."""
        try:
            job, groups, executions = (None, None, None) if answer is None else read_description(answer, job_id)
        except Unusable:
            self.record_fault(at)
            return
        if job is not None and job.status in OPEN:
            self.seen_open[job_id] = at
        answers = self.described.setdefault(job_id, collections.deque(maxlen=MOST_ANSWERS))
        answers.append(Answer(at, job_id, job, groups, executions))

    def is_described_elsewhere(self, job_id, since):
        """Whether an answer reported that a job is not open."""
        answers = self.described.get(job_id, ())
        return any(answer.at >= since and (answer.job is None or answer.job.status not in OPEN) for answer in answers)
