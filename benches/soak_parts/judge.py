"""Judges expositions: for each target, whether the values follow from the answers that were served by then."""

import collections

from . import oracle

ACCOUNT = "111122223333"
# Times are written in milliseconds, and rounded down.
TICK = 0.002
# Changes are published within a second; the rest is for a busy machine.
PUBLISHED_AFTER = 2.5
JOB_FAMILIES = (
    "aws_iot_jobs",
    "aws_iot_jobs_oldest_created_timestamp_seconds",
    "aws_iot_jobs_concurrent",
    "aws_iot_jobs_start_overdue",
    "aws_iot_thing_group_jobs",
    "aws_iot_thing_group_jobs_oldest_created_timestamp_seconds",
    "aws_iot_job_info",
    "aws_iot_job_status",
    "aws_iot_job_windowed",
    "aws_iot_job_thing_group_info",
    "aws_iot_job_created_timestamp_seconds",
    "aws_iot_job_last_updated_timestamp_seconds",
    "aws_iot_job_scheduled_start_timestamp_seconds",
    "aws_iot_job_scheduled_end_timestamp_seconds",
    "aws_iot_job_completed_timestamp_seconds",
    "aws_iot_job_described_timestamp_seconds",
    "aws_iot_job_executions",
    "aws_iot_ended_job_executions",
    "aws_iot_jobs_undescribed",
    "aws_iot_jobs_target_info",
)
# For a job with more groups, some are shown as one.
MOST_GROUPS = 10
RELOADED = "aws_iot_jobs_exporter_config_last_reload_successful"

Settings = collections.namedtuple("Settings", "interval stale_after requests_per_second max_jobs guest")


class Period:
    """A period whose begin and end are known up to the duration of a reload."""

    def __init__(self, begins, has_begun, **fields):
        self.begins, self.has_begun = begins, has_begun
        self.ends = self.has_ended = None
        self.__dict__.update(fields)

    def may_be(self, since, until):
        """Whether it may overlap this span."""
        return self.begins <= until and (self.has_ended is None or self.has_ended >= since)

    def is_all(self, since, until):
        """Whether it contains this span."""
        return self.has_begun is not None and self.has_begun <= since and (self.ends is None or self.ends > until)


class Record:
    """The configurations of one daemon over time."""

    def __init__(self, targets, settings, at):
        self.targets = {target.name: target for target in targets}
        self.settings = [Period(at, at, value=settings)]
        self.outcomes = [Period(at, at, value=1)]
        self.epochs = []

    def begin(self, name, at, labels=(), before=None):
        """Starts a target without data; or continues it with other labels and its data."""
        since, lower_bounds = (before.data_since, dict(before.lower_bounds)) if before else (at, {})
        self.targets[name].since = since
        known = {"data_since": since, "lower_bounds": lower_bounds, "counters": {}, "shown": {}}
        epoch = Period(at, None, name=name, labels=tuple(labels), **known)
        self.epochs.append(epoch)
        return epoch

    def values(self, periods, since, until):
        return {period.value for period in periods if period.may_be(since, until)}

    def turn(self, periods, value, at):
        """From `at` on, the value may be `value`. Call the result with the time at which it is certain."""
        before = periods[-1]
        before.ends = at
        periods.append(Period(at, None, value=value))

        def done(at):
            before.has_ended = periods[-1].has_begun = at

        return done


class Judge:
    """Judges the expositions of one daemon."""

    def __init__(self, record):
        self.record = record
        self.seen = collections.Counter()
        self.walks_seen = collections.defaultdict(set)
        # The answers for walks that are not shown correctly.
        self.details = []

    def lower_bounds(self):
        """The newest data that was shown: no exposition may show older data from now on."""
        return {epoch: (dict(epoch.lower_bounds), dict(epoch.counters)) for epoch in self.record.epochs}

    def faults(self, families, since, until, lower_bounds):
        """The faults of an exposition that was requested at `since`, and was complete at `until`."""
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
            looks = [Look(self, epoch, shown[name], since, until, lower_bounds.get(epoch, ({}, {}))) for epoch in mine]
            best = min(looks, key=lambda look: len(look.faults()))
            if best.faults_found:
                faults += [f"{name}: {fault}" for fault in best.faults_found]
                self.details += best.details()
            else:
                best.remember()
        return faults


def by_target(families):
    """Samples by target, family and the remaining labels."""
    shown = collections.defaultdict(lambda: collections.defaultdict(dict))
    for family in families.values():
        for labels, value in family.samples.items():
            labels = dict(labels)
            target = labels.pop("target", None)
            if target is not None:
                shown[target][family.name.replace("_total", "")][tuple(sorted(labels.items()))] = value
    return shown


class Look:
    """One target in one exposition, assumed to have started in `epoch`."""

    def __init__(self, judge, epoch, families, since, until, lower_bound):
        self.judge, self.record, self.epoch = judge, judge.record, epoch
        self.target = self.record.targets[epoch.name]
        self.since, self.until = since, until
        self.lower_bounds, self.counters_before = lower_bound
        self.faults_found, self.is_done = [], False
        self.published, self.walks, self.open = {}, {}, {}
        self.rows = {}
        for family, samples in families.items():
            common = [("aws_region", self.target.region), *epoch.labels]
            if family in JOB_FAMILIES:
                common.append(("aws_account_id", ACCOUNT))
            self.rows[family] = rows = {}
            for labels, value in samples.items():
                left = tuple(pair for pair in labels if pair not in common)
                if len(left) + len(common) != len(labels):
                    self.faults_found.append(f"{family} has the labels {labels}")
                # In the order of the names of the labels.
                rows[tuple(value for _, value in left)] = value

    def one(self, family, *labels):
        return self.rows.get(family, {}).get(labels)

    def faults(self):
        if self.is_done:
            return self.faults_found
        self.is_done = True
        up = self.one("aws_iot_jobs_up")
        if up not in (0, 1):
            self.faults_found.append(f"aws_iot_jobs_up is {up}")
            return self.faults_found
        self.check_counters()
        counts = self.rows.get("aws_iot_jobs", {})
        self.counts = {
            "open_jobs": {pair: jobs for pair, jobs in counts.items() if pair[0] in oracle.OPEN},
            "all_jobs": {pair: jobs for pair, jobs in counts.items() if pair[0] not in oracle.OPEN},
        }
        for name, listing in self.target.listings().items():
            self.check_listing(name, listing)
        if up and not self.counts["open_jobs"] and self.one("aws_iot_jobs_collector_success", "open_jobs"):
            self.faults_found.append("up, and without open jobs")
        is_whole = all(self.counts[name] for name in self.target.listings())
        if not up and is_whole and not self.had_fault():
            self.faults_found.append("not up, although no fault was injected")
        if not self.faults_found:
            self.compare()
        return self.faults_found

    def had_fault(self):
        walks = [self.walks.get(name) for name in self.target.listings()]
        began = min(walk.begin if walk else self.epoch.data_since for walk in walks)
        return self.target.had_fault(began - oracle.LONG, self.until)

    def check_counters(self):
        for family in ("collector_runs", "collector_failures", "api_requests", "api_errors", "api_rate_limit_wait_seconds"):
            for labels, value in self.rows.get("aws_iot_jobs_exporter_" + family, {}).items():
                if value < self.counters_before.get((family, labels), 0):
                    self.faults_found.append(f"the counter {family} {labels} fell to {value}")

    def check_listing(self, name, listing):
        """Determines the walk that is shown, and checks whether it may be shown."""
        success = self.one("aws_iot_jobs_collector_last_success_timestamp_seconds", name)
        newest = listing.complete_by(self.since - PUBLISHED_AFTER)
        newest = newest if newest and newest.begin >= self.epoch.data_since else None
        if success is None:
            if self.counts[name] or name in self.lower_bounds or newest:
                self.faults_found.append(f"{name} had no success, though walk {newest and newest.index} was complete")
            return
        published = self.published[name] = round(success * 1000)
        if published < self.lower_bounds.get(name, 0):
            self.faults_found.append(f"the last success of {name} went back from {self.lower_bounds[name]} to {published}")
        if success > self.until + TICK or success < self.epoch.data_since - TICK:
            self.faults_found.append(f"the last success of {name} is not between {self.epoch.data_since} and {self.until}")
        walk = listing.shown_at(published)
        if walk is None or walk.begin < self.epoch.data_since - TICK:
            self.faults_found.append(f"no walk of {name} was complete before {success}")
            return
        self.walks[name] = walk
        if newest and walk.index < newest.index:
            self.faults_found.append(f"{name}: walk {walk.index} is shown, and walk {newest.index} was complete at {newest.end}")
        bounds = {
            settings.stale_after
            for settings in self.record.values(self.record.settings, success - TICK, self.until + TICK)
        }
        if self.until - success < min(bounds) - TICK and not self.counts[name]:
            self.faults_found.append(f"{name}: jobs are withdrawn {self.until - success:.3f} s after the last success")
        if self.since - success > max(bounds) + PUBLISHED_AFTER and self.counts[name]:
            self.faults_found.append(f"{name}: jobs are shown {self.since - success:.3f} s after the last success")
        for family, expected in (("pages", walk.size), ("malformed", walk.malformed), ("jobs", len(walk.jobs))):
            shown = self.one(f"aws_iot_jobs_walk_{family}", name)
            if shown != expected:
                self.faults_found.append(f"{name}: {shown} {family} instead of {expected}")

    def compare(self):
        """Compares the exposition with the answers."""
        is_open = bool(self.counts["open_jobs"])
        if is_open:
            self.compare_open()
        if self.counts["all_jobs"] and "all_jobs" in self.walks:
            self.compare_ended(is_open)

    def has_all_series(self):
        return self.one("aws_iot_jobs_omitted_jobs", "open_jobs") == 0

    def compare_open(self):
        walk, target = self.walks["open_jobs"], self.target
        pair = lambda job: (oracle.word(job.status), oracle.word(job.selection))
        selections = {job_id: selection for job_id, selection in self.rows.get("aws_iot_job_info", {})}
        shown = {
            job_id: (status, selections.get(job_id))
            for job_id, status in self.rows.get("aws_iot_job_status", {})
            if status in oracle.OPEN
        }
        listed = {job_id: pair(job) for job_id, job in walk.jobs.items()}
        counts = collections.Counter(dict.fromkeys(target.scope.open_pairs(), 0))
        counts.update(shown.values() if self.has_all_series() else listed.values())
        more = {key: jobs - counts[key] for key, jobs in self.counts["open_jobs"].items() if jobs != counts[key]}
        missing = set(counts) - set(self.counts["open_jobs"])
        # Jobs that left the list have no summary in the walk.
        if missing or more and (self.has_all_series() or not 0 <= min(more.values()) <= max(more.values()) <= len(target.seen_open)):
            self.faults_found.append(f"open jobs: {more} more than {'series' if self.has_all_series() else 'listed'}, missing {missing}")
        if not self.has_all_series():
            limits = {settings.max_jobs for settings in self.record.values(self.record.settings, self.since - PUBLISHED_AFTER, self.until)}
            if len(shown) not in limits:
                self.faults_found.append(f"{len(shown)} open jobs have series of {limits}")
            self.judge.seen["with some series"] += 1
            return
        self.open = shown
        for job_id, expected in listed.items():
            if shown.get(job_id) != expected:
                self.faults_found.append(f"{job_id} is listed as {expected} and shown as {shown.get(job_id)}")
        for job_id in set(shown) - set(listed):
            if job_id not in target.seen_open:
                self.faults_found.append(f"{job_id} is shown as {shown[job_id]}, and was never open")
        extra = len(set(shown) - set(listed))
        self.judge.seen["with open jobs that left the list"] += extra > 0
        if target.describes:
            self.compare_left(walk, shown)
            self.compare_details(shown)
        else:
            beyond = [family for family in JOB_FAMILIES if "described" in family or "executions" in family]
            self.faults_found += [f"{family}, without descriptions" for family in beyond if family in self.rows]

    def compare_left(self, walk, shown):
        """A job that left the list stays until a description reports its status."""
        full = self.target.full
        for job_id, since in self.target.left.items():
            if job_id in shown or since > walk.end or since < self.epoch.data_since:
                continue
            is_walked = any(other.end >= since for other in full.walks)
            if not is_walked and not self.target.is_described_elsewhere(job_id, since):
                self.faults_found.append(f"{job_id} left the list at {since:.3f}, and is lost")

    def compare_details(self, shown):
        """Checks that executions and groups are those of one of the last descriptions."""
        executions, groups = collections.defaultdict(dict), collections.defaultdict(set)
        for (state, job_id), count in self.rows.get("aws_iot_job_executions", {}).items():
            executions[job_id][state] = count
        for job_id, group in self.rows.get("aws_iot_job_thing_group_info", {}):
            if group != "<unknown>":
                groups[job_id].add(group)
        created = {job_id: at for (job_id,), at in self.rows.get("aws_iot_job_created_timestamp_seconds", {}).items()}
        for job_id, counts in executions.items():
            # An id can be reused: the creation time, in whole seconds, distinguishes jobs.
            second = created[job_id] // 1 if job_id in created else None
            answers = [
                answer
                for answer in self.target.described.get(job_id, ())
                if answer.at <= self.until and answer.job and answer.is_of(second)
            ]
            fresh = [answer for answer in answers if answer.at >= self.since - PUBLISHED_AFTER]
            may_be = answers[-1 - len(fresh) :]
            if not any(answer.executions == counts for answer in may_be):
                known = [answer.executions for answer in may_be]
                self.faults_found.append(f"{job_id} has the executions {counts} of none of {known}")
            known = [answer.groups for answer in answers if answer.groups is not None]
            if known and len(known[-1]) <= MOST_GROUPS and groups[job_id] not in known:
                self.faults_found.append(f"{job_id} has the groups {groups[job_id]} of none of {known}")
        self.judge.seen["with descriptions"] += bool(executions)
        rows = {key: jobs for key, jobs in self.rows.get("aws_iot_thing_group_jobs", {}).items() if jobs and key[0] in oracle.OPEN}
        named = collections.Counter(
            (*shown[job_id], group) for job_id in groups if job_id in shown for group in groups[job_id]
        )
        if not any(key[2] == "<other>" for key in rows):
            # The names of the labels are sorted: status, target_selection, thing_group.
            rows = {key: jobs for key, jobs in rows.items() if key[2] != "<unknown>"}
            if rows != dict(named):
                wrong = {key for key in set(rows) | set(named) if rows.get(key) != named.get(key)}
                pairs = [f"{key}: {rows.get(key)} instead of {named.get(key)}" for key in sorted(wrong)[:10]]
                self.faults_found.append(f"groups of open jobs: {', '.join(pairs)}")
            self.judge.seen["with the groups of all open jobs"] += 1

    def compare_ended(self, shows_open):
        walk, target = self.walks["all_jobs"], self.target
        if shows_open and not self.has_all_series():
            return
        doubtful = {job_id for job_id, at in target.seen_open.items() if at >= walk.begin} | set(target.left)
        doubtful |= {job_id for job_id in target.described if target.is_described_elsewhere(job_id, walk.begin)}
        doubtful -= set(self.open)
        sure = collections.Counter(
            (oracle.word(job.status), oracle.word(job.selection))
            for job_id, job in walk.jobs.items()
            if job.status not in oracle.OPEN and job_id not in self.open and job_id not in doubtful
        )
        for pair in set(sure) | set(self.counts["all_jobs"]):
            least, jobs = sure[pair], self.counts["all_jobs"].get(pair)
            if jobs is None and least == 0:
                continue
            if jobs is None or not least <= jobs <= least + len(doubtful):
                self.faults_found.append(f"{jobs} jobs of {pair} instead of {least} to {least + len(doubtful)}")
        self.judge.seen["with ended jobs"] += 1

    def details(self):
        """The answers, for the analysis of a fault."""
        lines = []
        for name, walk in self.walks.items():
            lines.append(f"{name}: walk {walk.index} from {walk.begin:.3f} to {walk.end:.3f}, {walk.size} pages")
            lines += [f"  {job_id}: {job}" for job_id, job in walk.jobs.items()]
        lines += [f"  {answer}" for answers in self.target.described.values() for answer in answers]
        return lines

    def remember(self):
        """Raises the lower bounds: no exposition may show older data from now on."""
        epoch, seen = self.epoch, self.judge.seen
        for name, published in self.published.items():
            epoch.lower_bounds[name] = max(published, epoch.lower_bounds.get(name, 0))
        for family in ("collector_runs", "collector_failures", "api_requests", "api_errors", "api_rate_limit_wait_seconds"):
            for labels, value in self.rows.get("aws_iot_jobs_exporter_" + family, {}).items():
                epoch.counters[family, labels] = max(value, epoch.counters.get((family, labels), 0))
        for name, walk in self.walks.items():
            if self.counts[name]:
                self.judge.walks_seen[self.target.name, name].add(walk.index)
            is_shown, was_shown = bool(self.counts[name]), epoch.shown.get(name)
            seen["withdrawals"] += was_shown is True and not is_shown
            seen["returns"] += was_shown is False and is_shown
            epoch.shown[name] = is_shown
        seen["with jobs" if self.counts["open_jobs"] else "without jobs"] += 1
