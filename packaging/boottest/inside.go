package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// finding is what the guest says of one check: a line of JSON.
type finding struct {
	Check   string  `json:"check"`
	Detail  string  `json:"detail,omitempty"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

// lastCheck ends the transcript.
const lastCheck = "done"

// check is one thing that only a booted machine shows. Later ones build on earlier ones.
type check struct {
	name string
	do   func(*guest) (detail string, err error)
}

// guest is the half that does the checks, as root.
type guest struct {
	served  time.Time // since when the agent serves
	receipt string    // of the classifier's answer
}

// matching names the checks that an expression means, in their order.
func matching(only string) (names []string, err error) {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("parse the expression of checks: %w", err)
	}
	for _, c := range checks {
		if pattern.MatchString(c.name) {
			names = append(names, c.name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no check matches %q", only)
	}
	return names, nil
}

// checkAll makes the checks that the expression names, and returns the exit status.
func checkAll(only string) int {
	say := json.NewEncoder(os.Stdout)
	names, err := matching(only)
	if err != nil {
		_ = say.Encode(finding{Check: "expression of checks", Error: err.Error()})
		return 2
	}
	status := 0
	g := &guest{}
	for _, c := range checks {
		if !slices.Contains(names, c.name) {
			continue
		}
		began := time.Now()
		detail, err := c.do(g)
		f := finding{Check: c.name, Detail: detail, Seconds: time.Since(began).Seconds()}
		if err != nil {
			f.Error, status = err.Error(), 1
		}
		if err := say.Encode(f); err != nil {
			return 2
		}
	}
	_ = say.Encode(finding{Check: lastCheck}) // the host misses it if it fails
	return status
}

// sh runs a command with arguments that hold no spaces, and returns its output.
func sh(format string, args ...any) (string, error) {
	return runFor(2*time.Minute, strings.Fields(fmt.Sprintf(format, args...))...)
}

// patienceVariable is how many times as long as on an idle machine every wait may take.
const patienceVariable = "BOOTTEST_PATIENCE"

func patient(limit time.Duration) time.Duration {
	factor, err := strconv.ParseFloat(os.Getenv(patienceVariable), 64)
	if err != nil || factor < 1 {
		factor = 1
	}
	return time.Duration(float64(limit) * factor)
}

func runFor(limit time.Duration, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patient(limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w %s%s", strings.Join(words, " "), err, out, errs.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// property is one of a unit.
func property(unit, name string) (string, error) {
	return sh("systemctl show --value -p %s %s", name, unit)
}

func number(unit, name string) (int64, error) {
	v, err := property(unit, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s of %s is %q", name, unit, v)
	}
	return n, nil
}

// process returns a unit's main process, and how often it was started again.
func process(unit string) (pid, restarts int64, err error) {
	pid, err = number(unit, "MainPID")
	if err == nil {
		restarts, err = number(unit, "NRestarts")
	}
	return pid, restarts, err
}

// await asks again until it is so.
func await(limit time.Duration, what string, so func() (bool, error)) error {
	limit = patient(limit)
	end := time.Now().Add(limit)
	var last error
	for time.Now().Before(end) {
		ok, err := so()
		if ok {
			return nil
		}
		last = err
		time.Sleep(250 * time.Millisecond)
	}
	return fmt.Errorf("waited %s for: %s (%w)", limit, what, errors.Join(errors.New("not so"), last))
}

// journal is what a unit's processes logged in this boot, whole entries.
func journal(unit string) ([]map[string]string, error) {
	out, err := sh("journalctl -b -o json -u %s", unit)
	if err != nil {
		return nil, err
	}
	var all []map[string]string
	d := json.NewDecoder(strings.NewReader(out))
	for {
		var raw map[string]any
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		entry := map[string]string{}
		for k, v := range raw {
			if text, ok := v.(string); ok {
				entry[k] = text
			}
		}
		all = append(all, entry)
	}
}

// said is the last words of a unit.
func said(unit string) string {
	out, err := sh("journalctl -b -o cat -n 15 -u %s", unit)
	return fmt.Sprint(out, err)
}

const apiSocket = "/run/anchorhold/agent.sock"

// reply is what the agent answered.
type reply struct {
	Status int
	Body   []byte
}

func dialAgent(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", apiSocket)
}

// ask sends a request to the agent's socket as this process.
func ask(method, path string, body []byte, limit time.Duration) (r reply, err error) {
	client := &http.Client{Timeout: patient(limit), Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialAgent}}
	req, err := http.NewRequest(method, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	r.Status = resp.StatusCode
	r.Body, err = io.ReadAll(resp.Body)
	return r, err
}

// askAs asks /healthz-like paths as a user, with all of the user's groups as at a login. It
// returns the HTTP status, or the error that the user saw.
func askAs(name, path string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return "", err
	}
	credential := &syscall.Credential{Uid: parseID(u.Uid), Gid: parseID(u.Gid)}
	for _, id := range ids {
		credential.Groups = append(credential.Groups, parseID(id))
	}
	cmd := exec.Command("/proc/self/exe", "-ask", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func parseID(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		panic(err) // os/user read it from a file of numbers
	}
	return uint32(n)
}
