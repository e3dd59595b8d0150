package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// jobAnswer is what the demo reads of a job.
type jobAnswer struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Tries  int    `json:"tries"`
	Result struct {
		Bytes  float64 `json:"bytes"`
		Scaled bool    `json:"scaled"`
	} `json:"result"`
}

func (d *deployment) operate(ctx context.Context, into any, args ...string) error {
	out, err := d.tool(ctx, append(args, "--json", "--broker", d.path("operator.sock"))...)
	if err == nil && into != nil {
		err = json.Unmarshal(out, into)
	}
	return err
}

// openRound opens a round and hands it to the aggregator.
func (d *deployment) openRound(ctx context.Context, extra ...string) (string, error) {
	var r struct {
		Round string `json:"round"`
	}
	// Whoever the demo's policy judged may contribute; of them, those whom it gives a
	// round's key may decrypt, unless parties hold the key.
	extra = append([]string{"--contributor-policy", d.policy}, extra...)
	if !slices.Contains(extra, "--key") {
		extra = append([]string{"--decryptor-policy", d.policy}, extra...)
	}
	args := append([]string{"fed", "round", "open", "--model", "digits", "--length", fmt.Sprint(digitsLength), "--clip-l2", fmt.Sprint(clipL2),
		"--minimum", fmt.Sprint(d.minimum), "--maximum", fmt.Sprint(d.participants), "--aggregator", d.path("admin.sock")}, extra...)
	if err := d.operate(ctx, &r, args...); err != nil {
		return "", err
	}
	d.rounds = append(d.rounds, r.Round)
	return r.Round, nil
}

func (d *deployment) update(i int) string { return d.path(fmt.Sprintf("update%d.f32", i)) }

// trainAll trains every participant from the global model.
func (d *fedDemo) trainAll(ctx context.Context, number int) error {
	var trained []struct {
		Norm float64 `json:"norm"`
	}
	err := d.digits(ctx, &trained, "train", "--model", d.path("model.f32"), "--of", fmt.Sprint(d.participants), "--round", fmt.Sprint(number), "--out", d.path("update%d.f32"))
	if err == nil && len(trained) != d.participants {
		err = fmt.Errorf("%d participants were trained", len(trained))
	}
	return err
}

// submit hands one participant's update in and waits for the end of its job.
func (d *deployment) submit(ctx context.Context, round string, i int, file string, extra ...string) (jobAnswer, error) {
	var j jobAnswer
	out, err := d.tool(ctx, append([]string{"fed", "submit", round, file, "--wait", "--json", "--agent", d.socket(i)}, extra...)...)
	if err == nil {
		err = json.Unmarshal(out, &j)
	}
	return j, err
}

// finishRound closes, decrypts, finishes and applies the mean. It returns what was
// published.
func (d *fedDemo) finishRound(ctx context.Context, round string) (count int, epsilon float64, err error) {
	if err := d.operate(ctx, nil, "fed", "round", "close", round, "--aggregator", d.path("admin.sock")); err != nil {
		return 0, 0, err
	}
	if err := d.decryptAt(ctx, round, d.decryptor()); err != nil {
		return 0, 0, err
	}
	return d.publish(ctx, round)
}

// decryptAt has a guest open the sum of a closed round.
func (d *deployment) decryptAt(ctx context.Context, round string, guest int) error {
	_, err := d.tool(ctx, "fed", "decrypt", round, "--wait", "--json", "--agent", d.socket(guest))
	return err
}

// mean is the file for a round's published mean.
func (d *deployment) mean(round string) string { return d.path(round + ".mean.f32") }

// finish hands what was decrypted to the broker, which destroys the key, and fetches the
// mean into a file.
func (d *deployment) finish(ctx context.Context, round string) (count int, epsilon float64, err error) {
	if err := d.operate(ctx, nil, "fed", "round", "finish", round, "--aggregator", d.path("admin.sock")); err != nil {
		return 0, 0, err
	}
	out, err := d.tool(ctx, "fed", "result", round, "--json", "--out", d.mean(round), "--agent", d.socket(0))
	if err != nil {
		return 0, 0, err
	}
	var result struct {
		Count   int     `json:"count"`
		Epsilon float64 `json:"spent_epsilon"`
	}
	err = json.Unmarshal(out, &result)
	return result.Count, result.Epsilon, err
}

// publish finishes a round and applies the mean.
func (d *fedDemo) publish(ctx context.Context, round string) (count int, epsilon float64, err error) {
	if count, epsilon, err = d.finish(ctx, round); err != nil {
		return 0, 0, err
	}
	var applied struct {
		Norm float64 `json:"norm"`
	}
	return count, epsilon, d.digits(ctx, &applied, "apply", "--model", d.path("model.f32"), "--mean", d.mean(round))
}

func (d *fedDemo) accuracy(ctx context.Context) (float64, error) {
	var a struct {
		Accuracy float64 `json:"accuracy"`
	}
	return a.Accuracy, d.digits(ctx, &a, "evaluate", "--model", d.path("model.f32"))
}

// train runs the rounds without noise. In the second, participant 7's line breaks in
// the middle of its upload, again and again: the round goes on without it.
func (d *fedDemo) train(ctx context.Context) (string, error) {
	var note strings.Builder
	for number := range plainRounds {
		round, err := d.openRound(ctx)
		if err != nil {
			return "", err
		}
		if err := d.trainAll(ctx, number); err != nil {
			return "", err
		}
		began := time.Now()
		lost := number == 1
		if lost {
			d.cutter.cutAfter(90_000) // the manifest and most of the ciphertext's 110,592 bytes
		}
		if err := d.submitAll(ctx, round, lost); err != nil {
			return "", fmt.Errorf("round %d: %w", number+1, err)
		}
		d.cutter.mend()
		sent := time.Since(began)
		count, _, err := d.finishRound(ctx, round)
		if err != nil {
			return "", fmt.Errorf("round %d: %w", number+1, err)
		}
		want := d.participants
		if lost {
			want--
		}
		if count != want {
			return "", fmt.Errorf("round %d closed over %d contributions, want %d", number+1, count, want)
		}
		a, err := d.accuracy(ctx)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&note, "round %d: %d of %d, accuracy %.3f; submitted in %.2f s, closed, decrypted and published in %.2f s", number+1, count, d.participants, a, sent.Seconds(), time.Since(began).Seconds()-sent.Seconds())
		if lost {
			note.WriteString("; participant 7 was lost in the middle of its upload")
		}
		note.WriteString("\n")
		if number == plainRounds-1 && a < 0.85 {
			return note.String(), fmt.Errorf("accuracy %.3f after %d rounds is far below the control", a, plainRounds)
		}
	}
	fmt.Fprintf(&note, "each contribution is %.0f bytes for %d values (%.2f a value, padded to a block of 16,384)", d.sent, digitsLength, d.sent/digitsLength)
	return note.String(), nil
}

// submitAll submits all updates at the same time. If the last participant is to be
// lost, its submission must fail, and for the reason that its line broke.
func (d *fedDemo) submitAll(ctx context.Context, round string, lost bool) error {
	var wg sync.WaitGroup
	errs := make([]error, d.participants)
	for i := range d.participants {
		wg.Go(func() {
			j, err := d.submit(ctx, round, i, d.update(i))
			switch {
			case lost && i == d.participants-1 && err == nil:
				errs[i] = errors.New("an upload over a broken line was completed")
			case lost && i == d.participants-1:
			case err != nil:
				errs[i] = fmt.Errorf("participant %d: %w", i, err)
			case i == 0:
				d.sent = j.Result.Bytes
			}
		})
	}
	if lost {
		// Tries of a job are some seconds apart; the round need not wait for the last.
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(60 * time.Second):
			return errors.New("the job of the lost participant does not end")
		}
		return errors.Join(errs...)
	}
	wg.Wait()
	return errors.Join(errs...)
}

// refused runs a command that must be refused with a reason.
func refused(err error, reason string) (string, error) {
	if err == nil {
		return "", fmt.Errorf("got no refusal, want %s", reason)
	}
	if !strings.Contains(err.Error(), reason) {
		return "", fmt.Errorf("refused for a reason other than %s: %w", reason, err)
	}
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	last := lines[len(lines)-1]
	if _, said, ok := strings.Cut(last, "anchorhold: refused: "); ok {
		last = said
	}
	return last, nil
}

// refuseDuplicate has participant 0 submit two different vectors in one round.
func (d *fedDemo) refuseDuplicate(ctx context.Context) (string, error) {
	round, err := d.openRound(ctx)
	if err != nil {
		return "", err
	}
	if _, err := d.submit(ctx, round, 0, d.update(0)); err != nil {
		return "", err
	}
	_, err = d.submit(ctx, round, 0, d.update(1))
	return refused(err, "already-contributed")
}

// refuseNorm has participant 1 submit its model a hundred times over.
func (d *fedDemo) refuseNorm(ctx context.Context) (string, error) {
	data, err := os.ReadFile(d.update(1))
	if err != nil {
		return "", err
	}
	for i := 3; i < len(data); i += 4 {
		data[i] = data[i]&0x80 | 0x41 // every value between 8 and 32
	}
	if err := os.WriteFile(d.path("poison.f32"), data, 0o600); err != nil {
		return "", err
	}
	_, err = d.submit(ctx, d.rounds[len(d.rounds)-1], 1, d.path("poison.f32"), "--strict")
	return refused(err, "norm-exceeded")
}

// trainPrivately runs one round with noise.
func (d *fedDemo) trainPrivately(ctx context.Context) (string, error) {
	before, err := d.accuracy(ctx)
	if err != nil {
		return "", err
	}
	round, err := d.openRound(ctx, "--epsilon", fmt.Sprint(privateRound))
	if err != nil {
		return "", err
	}
	if err := d.trainAll(ctx, plainRounds); err != nil {
		return "", err
	}
	if err := d.submitAll(ctx, round, false); err != nil {
		return "", err
	}
	count, epsilon, err := d.finishRound(ctx, round)
	if err != nil {
		return "", err
	}
	a, err := d.accuracy(ctx)
	if err != nil {
		return "", err
	}
	if epsilon <= 0 || epsilon > privateRound*1.001 {
		return "", fmt.Errorf("epsilon %g was charged, %g was allowed", epsilon, privateRound)
	}
	if _, err := d.openRound(ctx, "--epsilon", "19.9"); err == nil {
		return "", errors.New("a round beyond the model's privacy budget was opened")
	} else if !strings.Contains(err.Error(), "privacy-budget-exhausted") {
		return "", err
	}
	return fmt.Sprintf("%d contributions, epsilon %.3f at delta 1e-5 (a contribution more or less, weights public) charged before the ticket; accuracy %.3f, was %.3f (noise for eight is much; docs/performance.md has the curve)\na further round of epsilon 19.9 is refused: privacy-budget-exhausted", count, epsilon, a, before), nil
}

func (d *fedDemo) showLedger(ctx context.Context) (string, error) {
	out, err := d.tool(ctx, "fed", "ledger", "--broker", d.path("operator.sock"))
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(out), "\n")
	verified, err := d.tool(ctx, "audit", "verify", "--broker", d.path("operator.sock"), "--accept-own-checkpoints")
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(verified), "\n")
	return first + "\n" + line, nil
}
