"""Whether an exposition is right: for each target, whether it can be what one of its walks has to show at that time."""

import collections

from . import oracle

ACCOUNT = "111122223333"
# Times are written in milliseconds, and rounded down.
TICK = 0.002
JOB_FAMILIES = (
    "aws_iot_jobs",
    "aws_iot_jobs_oldest_created_timestamp_seconds",
    "aws_iot_jobs_concurrent",
    "aws_iot_thing_group_jobs",
    "aws_iot_thing_group_jobs_oldest_created_timestamp_seconds",
    "aws_iot_jobs_long_running",
    "aws_iot_thing_group_jobs_long_running",
    "aws_iot_jobs_start_overdue",
    "aws_iot_job_info",
    "aws_iot_job_thing_group_info",
    "aws_iot_job_created_timestamp_seconds",
    "aws_iot_job_last_updated_timestamp_seconds",
    "aws_iot_job_scheduled_start_timestamp_seconds",
    "aws_iot_job_executions",
    "aws_iot_job_described_timestamp_seconds",
    "aws_iot_jobs_undescribed",
    "aws_iot_jobs_describe_failures",
    "aws_iot_jobs_describe_denied",
    "aws_iot_jobs_target_info",
)
LAST_WALK = "aws_iot_jobs_last_walk_"
# Of a job with more, some are shown as one.
MOST_GROUPS = 10
RELOADED = "aws_iot_jobs_exporter_config_last_reload_successful"

Settings = collections.namedtuple("Settings", "interval timeout stale_after requests_per_second max_jobs guest")


class Period:
    """Something that begins and ends at times that are known up to the time that a reload takes."""

    def __init__(self, begins, has_begun, **told):
        self.begins, self.has_begun = begins, has_begun
        self.ends = self.has_ended = None
        self.__dict__.update(told)

    def may_be(self, since, until):
        """Whether some of it may be in this span."""
        return self.begins <= until and (self.has_ended is None or self.has_ended >= since)

    def is_all(self, since, until):
        """Whether all of this span is in it."""
        return self.has_begun is not None and self.has_begun <= since and (self.ends is None or self.ends > until)


class Record:
    """What one daemon was told to be, and when."""

    def __init__(self, watched, settings, at):
        self.watched = {target.name: target for target in watched}
        self.settings = [Period(at, at, value=settings)]
        self.outcomes = [Period(at, at, value=1)]
        # Reloads that end refreshes half way.
        self.disturbances = []
        self.epochs = []

    def begin(self, name, at, labels=()):
        """A target starts, and knows nothing."""
        epoch = Period(at, None, name=name, labels=tuple(labels), newest=0, floor=None, counters={}, shown=None)
        self.epochs.append(epoch)
        return epoch

    def values(self, periods, since, until):
        return {period.value for period in periods if period.may_be(since, until)}

    def turn(self, periods, value, at):
        """From `at` on it may be `value`; what is returned is told when it is."""
        before = periods[-1]
        before.ends = at
        periods.append(Period(at, None, value=value))

        def done(at):
            before.has_ended = periods[-1].has_begun = at

        return done

    def may_be_published(self, walk, at):
        """Whether nothing but a publication can have come between a walk and the request at this time."""
        undisturbed = not any(disturbance.may_be(walk.since, at) for disturbance in self.disturbances)
        timeout = min(settings.timeout for settings in self.values(self.settings, walk.begin, at))
        return undisturbed and walk.end - walk.since < timeout - 0.5


class Judge:
    """Looks at the expositions of one daemon."""

    def __init__(self, record, ended_within):
        self.record, self.ended_within = record, ended_within
        self.seen = collections.Counter()
        self.walks_seen = collections.defaultdict(set)
        # What was served for the walks that are not shown as they should be.
        self.details = []

    def floors(self):
        """What was shown so far: nothing older may be shown from now on."""
        return {epoch: (epoch.floor, dict(epoch.counters)) for epoch in self.record.epochs}

    def faults(self, families, since, until, floors):
        """What is wrong with an exposition that was asked for at `since`, and was there at `until`."""
        faults, self.details = [], []
        reloaded = families.get(RELOADED)
        if not reloaded or reloaded.samples.get(()) not in self.record.values(self.record.outcomes, since, until):
            faults.append(f"{RELOADED} is {reloaded and reloaded.samples}")
        shown = by_target(families)
        epochs = [epoch for epoch in self.record.epochs if epoch.may_be(since, until)]
        for name in set(shown) - {epoch.name for epoch in epochs}:
            faults.append(f"{name} is shown, and is no target")
        for name in {epoch.name for epoch in epochs}:
            mine = [epoch for epoch in epochs if epoch.name == name]
            if name not in shown:
                if any(epoch.is_all(since, until) for epoch in mine):
                    faults.append(f"{name} is not shown at all")
                continue
            times = len(shown[name]["aws_iot_jobs_up"])
            if times != 1:
                faults.append(f"{name} is shown {times} times at once")
                continue
            looks = [Look(self, epoch, shown[name], since, until, floors.get(epoch, (None, {}))) for epoch in mine]
            told = min(looks, key=lambda look: len(look.faults()))
            if told.told:
                faults += [f"{name}: {fault}" for fault in told.told]
            else:
                told.remember()
        return faults


def by_target(families):
    """Samples by target, family and the labels that are left."""
    shown = collections.defaultdict(lambda: collections.defaultdict(dict))
    for family in families.values():
        for labels, value in family.samples.items():
            labels = dict(labels)
            target = labels.pop("target", None)
            if target is not None:
                shown[target][family.name.replace("_total", "")][tuple(sorted(labels.items()))] = value
    return shown


class Look:
    """One look at one target, taken for one that began in `epoch`."""

    def __init__(self, judge, epoch, families, since, until, floor):
        self.judge, self.record, self.epoch = judge, judge.record, epoch
        self.watched = self.record.watched[epoch.name]
        self.since, self.until = since, until
        self.floor, self.counters_before = floor
        self.told = []
        self.rows = {}
        for family, samples in families.items():
            common = [("aws_region", self.watched.region), *epoch.labels]
            if family in JOB_FAMILIES:
                common.append(("aws_account_id", ACCOUNT))
            self.rows[family] = rows = {}
            for labels, value in samples.items():
                left = tuple(pair for pair in labels if pair not in common)
                if len(left) + len(common) != len(labels):
                    self.told.append(f"{family} has the labels {labels}")
                rows[tuple(value for _, value in left)] = value

    def one(self, family):
        return self.rows.get(family, {}).get(())

    def faults(self):
        up, success = self.one("aws_iot_jobs_up"), self.one("aws_iot_jobs_last_success_timestamp_seconds")
        self.is_shown = any(family in self.rows for family in JOB_FAMILIES)
        self.published = self.walk = None
        if up not in (0, 1):
            return self.told + [f"aws_iot_jobs_up is {up}"]
        self.check_counters()
        known = self.watched.last_known_published(self.since)
        known = known if known and known.begin >= self.epoch.begins else None
        if success is None:
            if self.is_shown or up or self.floor is not None or known:
                self.told.append(
                    f"no last success, though up is {up} and one at {self.floor} was shown ({known and known.index})"
                )
            return self.told
        self.published = round(success * 1000)
        self.walk = self.watched.shown_at(self.published)
        if self.floor is not None and self.published < self.floor:
            self.told.append(f"the last success went back from {self.floor} to {self.published}")
        if success > self.until + TICK or success < self.epoch.begins - TICK:
            self.told.append(f"the last success, at {success}, is not between {self.epoch.begins} and {self.until}")
        if self.walk is None or self.walk.begin < self.epoch.begins - TICK:
            return self.told + [f"no walk was complete before {success}"]
        if known and self.walk.index < known.index:
            self.told.append(
                f"walk {self.walk.index} is shown, and walk {known.index} was published at {known.published_by}"
            )
        self.check_age(success, up)
        self.check_last_walk()
        if self.is_shown and not self.told:
            self.compare()
        return self.told

    def check_counters(self):
        for family in ("refreshes", "refresh_failures", "api_requests"):
            for labels, value in self.rows.get("aws_iot_jobs_exporter_" + family, {}).items():
                if value < self.counters_before.get((family, labels), 0):
                    self.told.append(f"the counter {family} {labels} fell to {value}")

    def check_age(self, success, up):
        bounds = {
            settings.stale_after
            for settings in self.record.values(self.record.settings, success - TICK, success + TICK)
        }
        if self.until - success < min(bounds) - TICK and not self.is_shown:
            self.told.append(f"jobs are withdrawn {self.until - success:.3f} s after the last success")
        if self.since - success > max(bounds) + TICK and self.is_shown:
            self.told.append(f"jobs are shown {self.since - success:.3f} s after the last success")
        if up and not self.is_shown:
            self.told.append("up, and without jobs")
        if not up and self.is_shown and not self.watched.had_trouble(self.walk.since, self.until):
            self.told.append("not up, though nothing has gone wrong")

    def check_last_walk(self):
        if self.one(LAST_WALK + "pages") != len(self.walk.pages):
            self.told.append(f"{self.one(LAST_WALK + 'pages')} pages instead of {len(self.walk.pages)}")
        for family in ("duplicates", "malformed"):
            if self.one(LAST_WALK + family) != getattr(self.walk, family):
                self.told.append(f"{self.one(LAST_WALK + family)} {family} instead of {getattr(self.walk, family)}")

    def compare(self):
        """With each of what may be shown of the walk; one must be it in every family."""
        candidates = self.walk.candidates(self.published, int(self.until * 1000))
        if not candidates:
            self.judge.seen["not judged: too many answers at the moment of publication"] += 1
            return
        told = []
        for sums in candidates:
            faults = self.differences(sums)
            if not faults:
                if sums.walk.describes and sums.jobs != sums.walk.jobs:
                    self.judge.seen["with counts that descriptions changed"] += 1
                return
            told.append(faults)
        fewest = min(told, key=len)
        self.judge.details += self.walk.details()
        self.told += [f"walk {self.walk.index}, published at {self.published}, {len(candidates)} possible:", *fewest]

    def differences(self, sums):
        faults = []

        def equal(what, shown, expected):
            if shown != expected:
                wrong = {key for key in set(shown) | set(expected) if shown.get(key) != expected.get(key)}
                pairs = ", ".join(
                    f"{key}: {shown.get(key)} instead of {expected.get(key)}" for key in sorted(wrong)[:10]
                )
                faults.append(f"{what}: {pairs}")

        in_millis = lambda rows: {key: oracle.milliseconds(value) for key, value in rows.items()}
        rows = lambda family: self.rows.get(family, {})
        equal("aws_iot_jobs", rows("aws_iot_jobs"), dict(sums.pairs))
        equal("oldest", in_millis(rows("aws_iot_jobs_oldest_created_timestamp_seconds")), sums.oldest)
        equal("concurrent", {key[0]: value for key, value in rows("aws_iot_jobs_concurrent").items()}, sums.concurrent)
        for family in ("jobs", "recovered"):
            expected = sums.total if family == "jobs" else sums.recovered
            equal(LAST_WALK + family, {(): self.one(LAST_WALK + family)}, {(): expected})
        # Of single jobs, as many as the limit has.
        info = {key[0]: key[1:3] for key in rows("aws_iot_job_info")}
        limits = {settings.max_jobs for settings in self.settings_when_published()}
        if len(info) not in {min(limit, len(sums.open)) for limit in limits} or len(info) != len(
            rows("aws_iot_job_info")
        ):
            faults.append(f"{len(info)} jobs have series, of {len(sums.open)} and at most {limits}")
        equal("omitted", {(): self.one("aws_iot_jobs_omitted_jobs")}, {(): len(sums.open) - len(info)})
        shown = {job_id: sums.open[job_id] for job_id in info if job_id in sums.open}
        equal("job_info", info, {job_id: (job.status, oracle.word(job.selection)) for job_id, job in shown.items()})
        for family, field in (("created", "created"), ("last_updated", "updated")):
            times = {(job_id,): getattr(job, field) for job_id, job in shown.items() if getattr(job, field) is not None}
            equal(family, in_millis(rows(f"aws_iot_job_{family}_timestamp_seconds")), times)
        if sums.answers is not None:
            self.compare_descriptions(sums, shown, equal, rows)
            return faults
        for threshold, jobs in rows("aws_iot_jobs_long_running").items():
            least, most = sums.long_running(float(threshold[0]), self.published)
            if not least <= jobs <= most:
                faults.append(f"{jobs} long-running for {threshold[0]} s instead of {least} to {most}")
        beyond = [
            family
            for family in JOB_FAMILIES
            if "thing_group" in family or "describe" in family or "executions" in family
        ]
        faults += [f"{family}, without descriptions" for family in beyond if family in self.rows]
        return faults

    def compare_descriptions(self, sums, shown, equal, rows):
        """What is known of each open job where none is said to be missing."""
        equal("denied", {(): self.one("aws_iot_jobs_describe_denied")}, {(): 0})
        if self.one("aws_iot_jobs_describe_failures") != 0:
            self.judge.seen["with descriptions that failed"] += 1
            return
        told = {job_id: sums.answers.get(job_id) for job_id in sums.open}
        unknown = {job_id: 1 for job_id, answer in told.items() if not answer or not answer.job}
        equal("open jobs that were never described", {}, unknown)
        if unknown:
            return
        executions = {(state, job_id): count for job_id in shown for state, count in told[job_id].executions.items()}
        equal("executions", rows("aws_iot_job_executions"), executions)
        few = {job_id: told[job_id].groups for job_id in shown if len(told[job_id].groups) <= MOST_GROUPS}
        info = {key: value for key, value in rows("aws_iot_job_thing_group_info").items() if key[0] in few}
        equal("job_thing_group_info", info, {(job_id, group): 1 for job_id, groups in few.items() for group in groups})

        groups = rows("aws_iot_thing_group_jobs")
        names = {group for _, _, group in groups}
        jobs = [(sums.open[job_id], answer.groups) for job_id, answer in told.items()]
        jobs += [(job, ["<unknown>"]) for job in sums.nameless if job.status in oracle.OPEN]
        of_open = {key: count for key, count in groups.items() if key[0] in oracle.OPEN}
        equal("groups of open jobs", of_open, group_rows(sums, names, True, jobs))
        self.judge.seen["with the groups of all open jobs"] += 1
        jobs = self.ended_jobs(sums) if self.one("aws_iot_jobs_undescribed") == 0 else None
        if jobs is not None:
            of_ended = {key: count for key, count in groups.items() if key[0] not in oracle.OPEN}
            equal("groups of ended jobs", of_ended, group_rows(sums, names, False, jobs))
            self.judge.seen["with the groups of all ended jobs"] += 1

    def ended_jobs(self, sums):
        """Those within the window, with their groups; None where that can't be told, since one is about to leave it."""
        since = (self.walk.begin - self.judge.ended_within) * 1000
        jobs = []
        for job_id, job in [*sums.jobs.items(), *((None, job) for job in sums.nameless)]:
            ended = next((time for time in (job.completed, job.updated, job.created) if time is not None), None)
            if job.status in oracle.OPEN or ended is not None and ended < since - 1000:
                continue
            groups = self.watched.groups_of(job_id, job.created) if job_id else ["<unknown>"]
            if groups is None or ended is not None and ended < since + 1000:
                return None
            jobs.append((job, groups))
        return jobs

    def settings_when_published(self):
        return self.record.values(self.record.settings, self.published / 1000 - TICK, self.published / 1000 + TICK)

    def remember(self):
        """What was shown must not be taken back."""
        epoch = self.epoch
        for family in ("refreshes", "refresh_failures", "api_requests"):
            for labels, value in self.rows.get("aws_iot_jobs_exporter_" + family, {}).items():
                epoch.counters[family, labels] = max(value, epoch.counters.get((family, labels), 0))
        if self.published is None:
            return
        epoch.floor = max(self.published, epoch.floor or 0)
        self.judge.walks_seen[epoch.name].add(self.walk.index)
        self.judge.seen["with jobs" if self.is_shown else "without jobs, since they are stale"] += 1
        if epoch.shown is not None and self.since > epoch.newest and epoch.shown != self.is_shown:
            self.judge.seen["returns" if self.is_shown else "withdrawals"] += 1
        if self.since > epoch.newest:
            epoch.shown, epoch.newest = self.is_shown, self.until


def group_rows(sums, names, are_open, jobs):
    """A job counts in each of its groups, and a group that is shown has every known pair."""
    pairs = [pair for pair in sums.walk.scope.pairs() if (pair[0] in oracle.OPEN) == are_open]
    rows = collections.Counter({(*pair, group): 0 for pair in pairs for group in names})
    for job, groups in jobs:
        rows.update((oracle.word(job.status), oracle.word(job.selection), group) for group in groups)
    return dict(rows)
