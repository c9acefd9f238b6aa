"""What an exposition has to show, derived from the answers that were served and from docs/metrics.md: nothing here
knows how the daemon does it.

A walk is what was served between a ListJobs request without nextToken and the answer without one (for a scope of
several statuses, one such sequence each). A job counts once, as its last summary in the walk has it; where jobs are
described, as its description has it, if that is not older. `aws_iot_jobs_last_success_timestamp_seconds` names the walk
that is shown: the last one that was complete by then.
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
# README: a job that has just changed may be known to ListJobs before it is to DescribeJob.
SETTLING_MS = 60_000
# So many listed jobs that DescribeJob does not find, and none that it does, are not believed to be gone.
NOTHING_FOUND = 3
# Descriptions that are under way at once: where a round of them ends early, so many answers may have come too late.
PARALLEL = 8
# A refresh that takes so long may have been cut short by its timeout; none takes longer than the other.
LONG, LONGEST = 2.5, 5.0
# More doubtful answers than these are not tried in all combinations.
MOST_DOUBTS = 6
# How long walks are kept: longer than anything is shown.
KEPT = 40.0

Job = collections.namedtuple("Job", "status selection concurrent created updated completed")
Answer = collections.namedtuple("Answer", "at job_id job groups executions")


class Unusable(Exception):
    """An answer that says nothing: a client that takes it for an answer is at fault."""


def milliseconds(seconds):
    """As a whole number, rounded as times of AWS are written, with three digits."""
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
    # The ARN ends with the id, so that a summary without one still tells it.
    job_id = job_id or (arn or "").partition(":job/")[2] or None
    return job_id, Job(status, selection, concurrent, *map(milliseconds, times))


def read_description(answer, asked):
    """A job, its groups and its executions."""
    if not isinstance(answer, dict) or not isinstance(answer.get("job"), dict):
        raise Unusable("no description")
    told = answer["job"]
    job_id, job = read_job(told)
    if job_id != asked:
        raise Unusable("another job")
    targets = told.get("targets")
    details = told.get("jobProcessDetails") or {}
    executions = {state: details[field] for field, state in EXECUTIONS.items() if details.get(field) is not None}
    return job, groups_of(targets), executions


def groups_of(targets):
    if not targets:
        return frozenset(["<unknown>"])
    groups = {target.partition(":thinggroup/")[2] for target in targets} - {""}
    return frozenset(groups or ["<none>"])


def word(text):
    if text is None:
        return "<unknown>"
    return text if re.match(r"[A-Za-z0-9_.]{1,64}\Z", text) else "<other>"


class Scope:
    """Which jobs a target watches."""

    def __init__(self, status=(), target_selection=None, thing_group_name=None):
        self.statuses, self.selection, self.group = tuple(status), target_selection, thing_group_name

    def configuration(self):
        keys = {"status": list(self.statuses), "target_selection": self.selection, "thing_group_name": self.group}
        return {key: value for key, value in keys.items() if value}

    def pairs(self):
        """The pairs that are known to be 0 where there is no job. Filtered by group, SCHEDULED jobs are left out."""
        statuses = [status for status in self.statuses or KNOWN_STATUSES if not (self.group and status == "SCHEDULED")]
        return [(status, selection) for status in statuses for selection in self.selections()]

    def selections(self):
        return [self.selection] if self.selection else list(KNOWN_SELECTIONS)

    def covers(self, job):
        if self.group and job.status == "SCHEDULED":
            return False
        in_status = not self.statuses or job.status is None or job.status in self.statuses
        return in_status and self.selection in (None, job.selection)


class Walk:
    """What was served for one refresh."""

    def __init__(self, scope, index, begin, describes):
        self.scope, self.index, self.begin, self.describes = scope, index, begin, describes
        # When the refresh began, as far as is known: a first page can be asked for several times.
        self.since = begin
        self.end = None
        self.pages = []
        self.tokens = collections.defaultdict(set)
        self.expected = (0, None)
        self.answers = []
        # When descriptions failed: some others may not have been waited for then.
        self.troubles = []
        # When the next refresh began, which shows that this one was published.
        self.published_by = None
        self.made = {}

    def serves(self, key):
        return key == self.expected or bool(self.pages) and key == self.pages[-1][0]

    def take(self, key, jobs, token, at):
        """Takes a page. One that is served again was not taken the first time. Tells whether it is a good one."""
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
        elif stage + 1 < len(self.scope.statuses):
            self.expected = (stage + 1, None)
        else:
            self.end = at
            self.count()
        return True

    def count(self):
        """Each job as its last summary tells of it."""
        self.jobs, self.nameless, self.duplicates, self.malformed = {}, [], 0, 0
        for job_id, job in itertools.chain.from_iterable(jobs for _, jobs, _ in self.pages):
            self.malformed += job_id is None or job.status is None or job.selection is None
            if job_id is None:
                self.nameless.append(job)
            else:
                self.duplicates += job_id in self.jobs
                self.jobs[job_id] = job
        self.plain = None if self.describes else Sums(self, self.jobs, 0)

    def forget_details(self):
        """The next refresh is under way, so that no page of this one is asked for again; its sums are all that
        matters."""
        self.pages = [(key, (), token) for key, _, token in self.pages]
        if not self.describes:
            self.jobs = None

    def details(self):
        """What was served, for people who look for a fault."""
        lines = [f"walk {self.index}: from {self.begin:.3f} to {self.end:.3f}, {len(self.pages)} pages"]
        lines += [f"descriptions failed at {', '.join(f'{at:.3f}' for at in self.troubles)}"]
        lines += [f"  {answer}" for answer in self.answers]
        return lines + [f"  {job_id}: {job}" for job_id, job in (self.jobs or {}).items()]

    def candidates(self, published, until):
        """What may be shown of it: one of these sums; none where there are too many. `published` and `until` are in
        milliseconds: when the refresh ended, and when the exposition was there."""
        if not self.describes:
            return [self.plain]
        in_time = {answer.job_id: answer for answer in self.answers if answer.at <= published}
        gone_later = [answer for answer in self.answers if published <= answer.at <= until and answer.job is None]
        key = (published, len(in_time), len(gone_later))
        if key not in self.made:
            self.made[key] = list(self.combinations(list(in_time.values()), gone_later, published))
        return self.made[key]

    def combinations(self, in_time, gone_later, published):
        in_time.sort(key=lambda answer: answer.at)
        sure = sum(answer.at < published for answer in in_time)
        if any(at * 1000 <= published for at in self.troubles) or published / 1000 - self.since > LONG:
            sure = max(0, min(sure, len(in_time) - PARALLEL))
        certain, doubtful = in_time[:sure], []
        for answer in in_time[sure:]:
            changes = self.amended([answer], published)[0] != self.jobs
            (doubtful if changes else certain).append(answer)
        if len(doubtful) > MOST_DOUBTS:
            return
        for size in range(len(doubtful), -1, -1):
            for some in itertools.combinations(doubtful, size):
                taken = certain + list(some)
                answers = {answer.job_id: answer for answer in taken}
                jobs, recovered = self.amended(taken, published)
                yield Sums(self, jobs, recovered, answers)
                gone = {answer.job_id for answer in gone_later} & {job for job in jobs if jobs[job].status not in OPEN}
                if gone:
                    # Ended jobs that were found to be gone when the walk had been shown already.
                    left = {job_id: job for job_id, job in jobs.items() if job_id not in gone}
                    yield Sums(self, left, recovered, answers, jobs)

    def amended(self, answers, published):
        """The jobs with what their descriptions made of them, and how many the walk had missed."""
        jobs, recovered = dict(self.jobs), 0
        found_none = all(answer.job is None for answer in answers)
        listed_and_gone = sum(answer.job is None and answer.job_id in self.jobs for answer in answers)
        for answer in answers:
            seen, told = self.jobs.get(answer.job_id), answer.job
            if told is None:
                changed = seen and (seen.updated or seen.created)
                is_settling = changed is not None and published - changed < SETTLING_MS
                if seen and not is_settling and not (found_none and listed_and_gone >= NOTHING_FOUND):
                    del jobs[answer.job_id]
                continue
            if seen is None:
                if self.scope.covers(told):
                    jobs[answer.job_id] = told
                    recovered += 1
                continue
            if seen.updated is not None and told.updated is not None and seen.updated // 1000 > told.updated // 1000:
                continue
            if None not in (seen.created, told.created) and seen.created // 1000 == told.created // 1000:
                # The same job, says docs/architecture.md, even where a fleet as fast as this one has used its id again.
                told = told._replace(created=seen.created)
            merged = Job(*(seen_value if value is None else value for value, seen_value in zip(told, seen)))
            if merged.status == seen.status or self.scope.covers(merged):
                jobs[answer.job_id] = merged
            else:
                del jobs[answer.job_id]
        return jobs, recovered


class Sums:
    """What is shown of some jobs."""

    def __init__(self, walk, jobs, recovered, answers=None, jobs_before=None):
        self.walk, self.pages, self.duplicates, self.malformed = walk, len(walk.pages), walk.duplicates, walk.malformed
        self.recovered = recovered
        self.answers = answers
        everything = list(jobs.values()) + walk.nameless
        self.total = len(everything)
        self.pairs = collections.Counter(dict.fromkeys(walk.scope.pairs(), 0))
        self.oldest = {}
        for job in everything:
            pair = word(job.status), word(job.selection)
            self.pairs[pair] += 1
            if job.status in OPEN and job.created is not None:
                self.oldest[pair] = min(job.created, self.oldest.get(pair, job.created))
        self.concurrent = {}
        if not walk.scope.statuses:
            concurrent = collections.Counter(dict.fromkeys(walk.scope.selections(), 0))
            unsure = set()
            for job in list(jobs_before.values()) + walk.nameless if jobs_before else everything:
                concurrent[word(job.selection)] += job.concurrent is True
                if job.status == "IN_PROGRESS" and job.concurrent is None:
                    unsure.add(word(job.selection))
            self.concurrent = {selection: jobs for selection, jobs in concurrent.items() if selection not in unsure}
        self.open = {job_id: job for job_id, job in jobs.items() if job.status in OPEN}
        self.jobs = jobs if walk.describes else None
        self.nameless = walk.nameless

    def long_running(self, threshold, at):
        """How many, at least and at most: a job may be about to become one."""
        running = [
            job.created for job in self.open.values() if job.status == "IN_PROGRESS" and job.selection == "SNAPSHOT"
        ]
        ages = [at - created for created in running if created is not None]
        return sum(age > threshold * 1000 + 100 for age in ages), sum(age > threshold * 1000 - 100 for age in ages)


class Watched:
    """What was served to one target."""

    def __init__(self, name, region, scope, describes):
        self.name, self.region, self.scope, self.describes = name, region, scope, describes
        self.walks = collections.deque()
        self.current = None
        self.begun = self.completed = self.orphans = 0
        # Requests that are not answered yet, and since when.
        self.waiting = {}
        # When something else than a good answer was served, or nothing.
        self.troubles = collections.deque(maxlen=20_000)
        self.described = {}

    def trouble(self, at, of_description=False):
        self.troubles.append(at)
        if of_description and self.current:
            self.current.troubles.append(at)

    def had_trouble(self, since, until):
        """Whether anything went wrong in this span; to wait for long is to be in trouble before it is known."""
        waiting = (at + LONG for at in self.waiting.values())
        return any(since <= at <= until for at in itertools.chain(self.troubles, waiting))

    def page_is_asked_for(self, status, token, at, may_be_published):
        """The walk and the place in it that a request belongs to."""
        key = (self.scope.statuses.index(status) if self.scope.statuses else 0, token)
        if key == (0, None):
            before = self.current
            self.current = Walk(self.scope, self.begun, at, self.describes)
            self.begun += 1
            if before and not before.pages:
                self.current.since = max(before.since, at - LONGEST)
            if before and before.end:
                if before.end < at and may_be_published(before, at):
                    before.published_by = at
                before.forget_details()
        elif not self.current or not self.current.serves(key):
            self.orphans += 1
            return None, key
        return self.current, key

    def page_is_served(self, walk, key, page, at):
        if walk is None or walk is not self.current:
            return
        try:
            jobs, token = read_page(page)
        except Unusable:
            self.trouble(at)
            return
        if not walk.take(key, jobs, token, at):
            self.trouble(at)
        if walk.end:
            self.completed += 1
            if walk in self.walks:
                self.walks.remove(walk)
            self.walks.append(walk)
            while len(self.walks) > 5 and self.walks[0].end < at - KEPT:
                self.walks.popleft()

    def description_is_served(self, walk, job_id, answer, at):
        """`answer` is None where there is no such job."""
        try:
            job, groups, executions = (None, None, None) if answer is None else read_description(answer, job_id)
        except Unusable:
            self.trouble(at, of_description=True)
            return
        if job is not None and job.created is not None:
            self.described.setdefault(job_id, {})[job.created // 1000] = groups
        if walk is not None and walk.end:
            walk.answers.append(Answer(int(at * 1000), job_id, job, groups, executions))

    def groups_of(self, job_id, created):
        """As described; None where it never was, or where that can't be told: ids are used again, and the time of
        creation tells jobs apart, but a summary can lack it."""
        described = self.described.get(job_id, {})
        if created is not None:
            return described.get(created // 1000)
        return next(iter(described.values())) if len(described) == 1 else None

    def shown_at(self, published):
        """The walk that a refresh that ended at this time, in milliseconds, has published."""
        for walk in reversed(self.walks):
            if int(walk.end * 1000) <= published:
                return walk
        return None

    def last_known_published(self, at):
        """The newest walk that is known to have been published by a time."""
        for walk in reversed(self.walks):
            if walk.published_by is not None and walk.published_by <= at:
                return walk
        return None
