/*
 * Restarts without the broker: an agent that uses keys under a lease, or under a permit of
 * docs/protocol.md 5.12, on a host that restarts it, cuts its network and puts any file back
 * that it ever had. It is a model of its own, beside authority.pml, so that its states do not
 * multiply with those of rounds.
 *
 * ASK, TELL and HOLDS are as there. The broker permits MOST restarts at a time, and the host
 * keeps a copy of every sealed file. The sealing is symbolic: a file opens where and as often as the
 * TPM says, and for nobody else.
 */

/* Time in ticks. A lease lives for LEASE, a permit for PERMIT, or to the end of its epoch. */
#define LEASE  1
#define PERMIT 2
#define LAST   4
#define MOST   1
#define FILES  2 /* sealed files that there may be */

/* The mutants. */
#ifndef MUTANT_RUNS_AFTER_PERMIT /* nothing wipes the keys when the permit ends */
#define MUTANT_RUNS_AFTER_PERMIT 0
#endif
#ifndef MUTANT_OPENS_AFTER_PERMIT /* a permit is not held against the guest's clock */
#define MUTANT_OPENS_AFTER_PERMIT 0
#endif
#ifndef MUTANT_OPENINGS_NOT_COUNTED /* the TPM unseals as often as it is asked */
#define MUTANT_OPENINGS_NOT_COUNTED 0
#endif
#ifndef MUTANT_OLD_FILE_OPENS /* what was sealed before opens beside what was sealed last */
#define MUTANT_OLD_FILE_OPENS 0
#endif
#ifndef MUTANT_REFUSAL_LEAVES_COPIES /* a refusal removes the file, and the TPM opens copies of it */
#define MUTANT_REFUSAL_LEAVES_COPIES 0
#endif
#ifndef MUTANT_REFUSAL_LEAVES_RUNNING /* what runs on a permit goes on after a refusal */
#define MUTANT_REFUSAL_LEAVES_RUNNING 0
#endif
#ifndef MUTANT_OPENS_AFTER_ANSWER /* an agent that a broker answered opens a file later in its life */
#define MUTANT_OPENS_AFTER_ANSWER 0
#endif
#ifndef MUTANT_ENDED_GUEST_PERMITTED /* the broker permits restarts to a guest that an operator ended */
#define MUTANT_ENDED_GUEST_PERMITTED 0
#endif
#ifndef MUTANT_PERMIT_BELOW_FLOOR /* a permit of an epoch that the guest knows to be retired */
#define MUTANT_PERMIT_BELOW_FLOOR 0
#endif

#define ASK(mutant, rule) (mutant || (rule))
#define TELL(rule, name)  if :: (rule) :: else -> printf("  refused-by %e\n", name) fi
#define HOLDS(claim, name) if :: (claim) :: else -> printf("  violates %e\n", name); assert(false) fi

/* Rules. */
mtype = { permit_runs, permit_began, opening_counted, sealed_last, refusal_forgets, refusal_ends, start_alone, guest_not_ended, permit_floor };

/* Properties. */
mtype = { a_key_has_a_lease_or_a_permit, a_permit_counts, a_new_permit_ends_the_old, a_refused_guest_has_no_key, an_answered_agent_asks_the_broker, an_ended_guest_gets_nothing, a_retired_permit_opens_nothing };

byte now;
byte left;           /* of the lease, whose keys are in memory */
byte ends[FILES];    /* of each permit, and of the file that was sealed for it */
byte opened[FILES];  /* how often the keys of each were used after a restart */
byte made;           /* permits so far */
byte file;           /* on the disk: the number of its permit, or none */
byte sealed;         /* whose file the TPM opens, or none */
byte running;        /* the permit that keys are used under, or none */
bit answered, tried; /* in this life of the agent: a broker answered, the file was tried */
bit ended;           /* by an operator, at the broker */
bit refused;         /* the guest was told: this model lets nobody back in */
bit retired, floor;  /* the permits' epoch: at the root, and as the guest knows */

inline tick() {
	now < LAST ->
	now++;
	printf("tick now=%d\n", now);
	if :: left > 0 -> left-- :: else fi;
	/* A timer of its own wipes at the end, whatever else hangs. */
	if :: running != 0 && now >= ends[running - 1] && !MUTANT_RUNS_AFTER_PERMIT -> running = 0 :: else fi
}

/* An exchange, and M8 and M9 directly after it. A retired epoch is followed by another one, under which this broker
   permits nothing: its policy changed, and the file stays. */
inline attest() {
	!refused && ASK(MUTANT_ENDED_GUEST_PERMITTED, !ended) && (retired || made < FILES) ->
	printf("attest permit=%d\n", (retired -> 0 : made + 1));
	TELL(!ended, guest_not_ended);
	HOLDS(!ended, an_ended_guest_gets_nothing);
	left = LEASE; running = 0; answered = 1;
	if
	:: retired -> floor = 1
	:: else -> made++; ends[made - 1] = now + PERMIT; file = made; sealed = made
	fi
}

inline end_guest() { !ended && made > 0 -> ended = 1; printf("end\n") }
inline retire()    { !retired && made > 0 -> retired = 1; printf("retire\n") }

/* The broker answers, and refuses this guest: the file goes, and so do copies of it. */
inline refuse() {
	ended && !refused ->
	printf("refuse\n");
	answered = 1; refused = 1; file = 0;
	if :: MUTANT_REFUSAL_LEAVES_COPIES :: else -> sealed = 0 fi;
	if :: MUTANT_REFUSAL_LEAVES_RUNNING :: else -> running = 0 fi
}

inline restart() {
	(answered || tried) ->
	printf("restart\n");
	left = 0; running = 0; answered = 0; tried = 0
}

inline put_back(k) {
	k <= made && file != k ->
	printf("put-back file=%d\n", k);
	file = k
}

/* No broker answers, and the agent opens what is sealed: once in its life, at its start. */
inline open(k) {
	file == k && !tried && left == 0 && running == 0 && opened[k - 1] <= MOST &&
		ASK(MUTANT_OPENS_AFTER_ANSWER, !answered) &&
		ASK(MUTANT_PERMIT_BELOW_FLOOR, !floor) &&
		ASK(MUTANT_OPENS_AFTER_PERMIT, now < ends[k - 1]) &&
		ASK(MUTANT_OLD_FILE_OPENS, sealed == k) &&
		ASK(MUTANT_OPENINGS_NOT_COUNTED, opened[k - 1] < MOST) ->
	printf("open file=%d\n", k);
	TELL(!answered, start_alone);
	TELL(!floor, permit_floor);
	TELL(now < ends[k - 1], permit_began);
	TELL(k == made, sealed_last);
	TELL(!refused, refusal_forgets);
	TELL(opened[k - 1] < MOST, opening_counted);
	HOLDS(!answered, an_answered_agent_asks_the_broker);
	HOLDS(!floor, a_retired_permit_opens_nothing);
	HOLDS(now < ends[k - 1], a_key_has_a_lease_or_a_permit);
	HOLDS(k == made, a_new_permit_ends_the_old);
	HOLDS(!refused, a_refused_guest_has_no_key);
	HOLDS(opened[k - 1] < MOST, a_permit_counts);
	tried = 1; running = k; opened[k - 1]++
}

inline answer() {
	left > 0 || running != 0 ->
	printf("answer\n");
	TELL(left > 0 || now < ends[running - 1], permit_runs);
	TELL(left > 0 || !refused, refusal_ends);
	HOLDS(left > 0 || now < ends[running - 1], a_key_has_a_lease_or_a_permit);
	HOLDS(left > 0 || !refused, a_refused_guest_has_no_key)
}

active proctype Clock() {
end:	do
	:: d_step { tick() }
	od
}

active proctype Broker() {
end:	do
	:: d_step { end_guest() }
	:: d_step { retire() }
	:: d_step { refuse() }
	od
}

active proctype Host() {
end:	do
	:: d_step { restart() }
	:: d_step { put_back(1) }
	:: d_step { put_back(2) }
	od
}

active proctype Agent() {
end:	do
	:: d_step { attest() }
	:: d_step { open(1) }
	:: d_step { open(2) }
	:: d_step { answer() }
	od
}

/* An honest story from beginning to end. */
#ifdef STORY_RESTART /* a restart on each of two permits, and a lease in between */
#define STORY (opened[0] == 1 && opened[1] == 1 && running == 2)
#endif
#ifdef STORY
active proctype Story() {
end:	d_step { STORY -> printf("reached\n"); assert(false) }
}
#endif
