package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/packaging/canary"
	"github.com/anchorhold/anchorhold/packaging/emulator"
)

// auditor is the host of the audit of where plaintext is: it boots a guest, has secrets of this run used in it, and
// at each moment of their life searches all that the host, the broker's host and root in the guest can see.
type auditor struct {
	host
	kernelArguments string // more for the guest's kernel
	jsonFile        string // for all that was found

	brokerAddress, aggregatorAddress string
	broker, aggregator               *service
	round                            string
	pad                              []byte
	controls                         map[string]string
	seed                             string // of the answer

	index    *canary.Index
	searcher *canary.Searcher
	large    large
	monitor  *monitor
	memory   string   // the file that is the guest's memory
	guest    net.Conn // nil while there is none
	answers  *json.Decoder

	startTook time.Duration      // of the agent, at most
	traces    map[string][]trace // by moment
}

func (x *auditor) run(ctx context.Context) error {
	x.traces = map[string][]trace{}
	return x.inRoom(ctx, []stage{
		{"root of the guest", x.unpack},
		{"programs under test", x.stamp},
		{"installation", x.installFirst},
		{"canaries of this run, keys and a sealed model", x.makeCanaries},
		{"the guest's configuration", x.furnish},
		{"disk", x.makeDisk},
	}, x.audit)
}

// installFirst installs the packages.
func (x *auditor) installFirst(ctx context.Context) error {
	debs, err := x.packages(ctx, "v0.0.1", "root/packages")
	if err == nil {
		_, err = emulator.Command(ctx, "chroot", append([]string{x.root, "dpkg", "-i"}, debs...)...)
	}
	return errors.Join(err, os.RemoveAll(x.path("root/packages")))
}

func (x *auditor) audit(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, x.deadline, fmt.Errorf("the audit did not finish within %s (-deadline, or DEADLINE= for make)", x.deadline))
	defer cancel()
	if err := x.startOutside(ctx); err != nil {
		return err
	}
	x.say("broker and aggregator are up, and a round is open")
	if err := x.publish(); err != nil {
		return err
	}
	err := x.bootAudited(ctx)
	if err := x.keepTraces(); err != nil {
		return err
	}
	if err != nil {
		console, _ := os.ReadFile(x.work.Path("console.log")) // what there is of it
		said, _ := os.ReadFile(x.work.Path("checks.log"))
		return fmt.Errorf("%w\n%s\n%s", errors.Join(err, context.Cause(ctx)), lastLines(string(console), 20), lastLines(string(said), 20))
	}
	return x.judge()
}

// publish makes the index that is known now the one that is searched with, here and in the guest.
func (x *auditor) publish() (err error) {
	if x.searcher, err = canary.NewSearcher(x.index); err != nil {
		return err
	}
	x.large = large{seed: maphash.MakeSeed(), clean: map[string][]uint64{}}
	if x.guest != nil {
		_, err = x.ask(order{Do: "index", Index: x.index})
	}
	return err
}

// bootAudited runs the machine to its end, and everything in it.
func (x *auditor) bootAudited(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := x.work.MakeTPM(ctx, "tpm"); err != nil {
		return err
	}
	forward := func(from, to string) string {
		return fmt.Sprintf(",guestfwd=tcp:%s-cmd:%s -part relay %s", from, x.work.Inside("boottest"), to)
	}
	on, turnOff := context.WithCancel(ctx)
	defer turnOff()
	machine, err := x.work.Start(on, "tpm", append(x.machine(x.kernelArguments), "-m", fmt.Sprint(auditedMemory>>20),
		"-object", "memory-backend-memfd,id=ram,share=on,size="+fmt.Sprint(auditedMemory), "-machine", "memory-backend=ram",
		"-drive", "if=none,id=d1,format=raw,file="+x.work.Inside("data.raw"), "-device", "virtio-blk-pci,drive=d1",
		"-netdev", "user,id=n0,restrict=on"+forward(outsideBroker, x.brokerAddress)+forward(outsideAggregator, x.aggregatorAddress)+forward(outsideAudit, listener.Addr().String()),
		"-object", "filter-dump,id=f0,netdev=n0,maxlen=65536,file="+x.work.Inside("network.pcap"), "-qmp", "unix:"+x.work.Inside("qmp.sock")+",server=on,wait=off")...)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		err := <-machine.Done()
		listener.Close() // nobody will connect any more
		ended <- err
	}()
	if x.monitor, err = openMonitor(on, x.work.Path("qmp.sock")); err == nil {
		x.memory, err = memoryOf(machine.PID(), auditedMemory)
	}
	if err == nil {
		err = x.life(ctx, listener)
	}
	if x.guest != nil {
		x.guest.Close() // the audit in the guest ends, and turns it off
	}
	if err != nil {
		turnOff()
		return errors.Join(err, context.Cause(ctx), <-ended)
	}
	if err := <-ended; ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	x.say("the guest is off")
	x.guest = nil
	return x.look(ctx, afterShutdown)
}

// ask has the guest do something and waits for its answer.
func (x *auditor) ask(o order) (r report, err error) {
	if err := errors.Join(x.guest.SetDeadline(time.Now().Add(x.deadline)), json.NewEncoder(x.guest).Encode(o)); err != nil {
		return r, err
	}
	if err := x.answers.Decode(&r); err != nil {
		return r, fmt.Errorf("the guest's answer to %s %v: %w", o.Do, o.Words, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("in the guest, %s %v: %s", o.Do, o.Words, r.Error)
	}
	return r, nil
}

// in runs commands in the guest, words apart at spaces.
func (x *auditor) in(commands ...string) error {
	for _, c := range commands {
		if _, err := x.ask(order{Do: "run", Words: []string{"sh", "-c", c}}); err != nil {
			return err
		}
	}
	return nil
}

// life is what happens in the guest, and when it is searched.
func (x *auditor) life(ctx context.Context, listener net.Listener) (err error) {
	if x.guest, err = listener.Accept(); err != nil {
		return fmt.Errorf("the guest did not come up: %w", err)
	}
	x.answers = json.NewDecoder(x.guest)
	var hello report
	if err := x.answers.Decode(&hello); err != nil {
		return err
	}
	x.say("the guest is up")
	if err := errors.Join(x.publish(), x.in("fallocate -l 64M "+swapFile+" && chmod 600 "+swapFile+" && mkswap -q "+swapFile)); err != nil {
		return err
	}
	if _, err := x.ask(order{Do: "start", Words: []string{"controls", "-part", "plant"}}); err != nil {
		return err
	}
	if err := x.in("swapon " + swapFile); err != nil {
		return err
	}
	if err := os.WriteFile(x.work.Path("tpm", "control"), []byte(x.controls[controlTPM]), 0o600); err != nil {
		return err
	}
	for _, m := range []struct {
		when  string
		reach func(context.Context) error
	}{
		{before, func(context.Context) error { return nil }},
		{afterTask, x.contribute},
		{during, x.generate},
		{afterLease, x.endLease},
		{afterCrash, x.crash},
		{afterWatchdog, x.hang},
		{afterStop, x.stop},
	} {
		if err := m.reach(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.when, err)
		}
		if err := x.look(ctx, m.when); err != nil {
			return fmt.Errorf("%s: %w", m.when, err)
		}
		if m.when == during {
			if _, err := x.ask(order{Do: "alive", Words: []string{"client"}}); err != nil {
				return fmt.Errorf("nothing was generated during the search: %w", err)
			}
		}
	}
	return nil
}

// startAgent starts the agent and waits until it serves.
func (x *auditor) startAgent() error {
	began := time.Now()
	if err := x.in("systemctl start anchorhold-agent.socket anchorhold-worker.socket " + agentUnit); err != nil {
		return err
	}
	_, err := x.ask(order{Do: "ready"})
	x.startTook = max(x.startTook, time.Since(began))
	return err
}

func (x *auditor) contribute(context.Context) error {
	if err := x.startAgent(); err != nil {
		return err
	}
	_, err := x.ask(order{Do: "run", Words: []string{"/usr/local/sbin/boottest", "-part", "contribute", x.round}})
	return err
}

// answerSeeds is how many answers are tried.
const answerSeeds = 5

// generate starts the guest's other services, has one answer made, which is a canary from then on, and starts a client
// that goes on asking. An answer that repeats itself does not stand out; another seed gives another one.
func (x *auditor) generate(ctx context.Context) (err error) {
	if err := x.startServices(ctx); err != nil {
		return err
	}
	for seed := range answerSeeds {
		x.seed = fmt.Sprint(seed)
		r, rerr := x.ask(order{Do: "run", Words: []string{"/usr/local/sbin/boottest", "-part", "ask", x.seed}})
		if rerr != nil {
			return rerr
		}
		answer, rerr := hex.DecodeString(r.Output)
		if rerr != nil {
			return rerr
		}
		for i := range answer {
			answer[i] ^= x.pad[i]
		}
		if err = x.index.Add(canary.Text(assetAnswer, string(answer))); err == nil {
			return errors.Join(x.publish(), x.startClient())
		}
	}
	return err
}

func (x *auditor) startClient() error {
	r, err := x.ask(order{Do: "start", Words: []string{"client", "-part", "client", x.seed}})
	if err == nil && r.Output != "200 OK" {
		err = fmt.Errorf("the client got %s", r.Output)
	}
	return err
}

func (x *auditor) stopClient() error {
	_, err := x.ask(order{Do: "stop", Words: []string{"client"}})
	return err
}

// hasStopped waits until the agent has ended.
const hasStopped = "while systemctl is-active -q " + agentUnit + "; do sleep 0.2; done"

// hideSocket keeps clients from starting the agent again. Those that are connected stay.
const hideSocket = "rm " + apiSocket

// crash has the broker grant leases again, and kills the agent while it answers.
func (x *auditor) crash(ctx context.Context) error {
	if err := x.newPolicy(ctx, 3, time.Now().AddDate(1, 0, 0)); err != nil {
		return err
	}
	if err := x.in("systemctl reload " + agentUnit); err != nil {
		return err
	}
	if _, err := x.ask(order{Do: "ready"}); err != nil {
		return err
	}
	if err := x.startClient(); err != nil {
		return err
	}
	return errors.Join(x.in(hideSocket, "systemctl kill --signal=SIGKILL "+agentUnit, hasStopped, "systemctl stop anchorhold-agent.socket"), x.stopClient())
}

// hang stops the agent while it answers, until the watchdog has killed it.
func (x *auditor) hang(context.Context) error {
	if err := x.startAgent(); err != nil {
		return err
	}
	if err := x.startClient(); err != nil {
		return err
	}
	return errors.Join(x.in(hideSocket, "systemctl kill --signal=SIGSTOP "+agentUnit, hasStopped, "systemctl show --value -p Result "+agentUnit+" | grep -q watchdog", "systemctl stop anchorhold-agent.socket"), x.stopClient())
}

// endLease has the broker end the policy, so that the agent's next lease is its last, and waits for its end.
func (x *auditor) endLease(ctx context.Context) error {
	if err := x.stopClient(); err != nil {
		return err
	}
	// The agent has to attest once more before the policy's end, which takes less than its start took.
	if err := x.newPolicy(ctx, 2, time.Now().Add(x.startTook+10*time.Second)); err != nil {
		return err
	}
	if err := x.in("systemctl reload " + agentUnit); err != nil {
		return err
	}
	if _, err := x.ask(order{Do: "ended"}); err != nil {
		return err
	}
	return x.in("until journalctl -q -b -o cat -u " + agentUnit + " | grep -q 'keys and weights are wiped'; do sleep 0.5; done")
}

func (x *auditor) newPolicy(ctx context.Context, version int, until time.Time) error {
	if err := os.WriteFile(x.at("policy.yaml"), []byte(auditedPolicy(version, until)), 0o600); err != nil {
		return err
	}
	_, err := x.operate(ctx, "policy", "import", x.at("policy.yaml"))
	return err
}

// stop stops all services while the lease lasts.
func (x *auditor) stop(context.Context) error {
	if err := x.startAgent(); err != nil {
		return err
	}
	if err := x.startClient(); err != nil {
		return err
	}
	return errors.Join(x.stopClient(), x.in("systemctl stop anchorhold-agent.socket "+agentUnit), x.stopServices())
}
