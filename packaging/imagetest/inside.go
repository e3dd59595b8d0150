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
	"path/filepath"
	"strings"
	"time"
)

// finding is a line of the guest's report.
type finding struct {
	// What says which it is.
	What string `json:"what"`
	// Uptime is when, in seconds since the kernel began.
	Uptime float64 `json:"uptime"`
	// Data is what was found.
	Data []byte `json:"data,omitempty"`
	// Error is why there is none.
	Error string `json:"error,omitempty"`
}

// What the guest reports, in this order.
const (
	foundLog         = "event log"   // the firmware's
	foundKey         = "key"         // what the check of the agent's file says, with the name of the TPM's key
	foundHostInput   = "host input"  // which of the host's credentials systemd took
	foundListeners   = "listeners"   // TCP, as the kernel has them
	foundStatus      = "status"      // of the agent, whenever it changes
	foundLive        = "live"        // the agent's first answer
	foundAnswer      = "answer"      // the classifier's
	foundAttestation = "attestation" // evidence that the agent made for this program
	foundBlame       = "blame"       // what took time
)

const (
	reportPort = "anchorhold.test"
	apiSocket  = "/run/anchorhold/agent.sock"
	agentFile  = "/etc/anchorhold/agent.yaml"
	// hostCredential is one that the test offers as a host would.
	hostCredential = "anchorhold.test"
)

// reporter is the guest's half.
type reporter struct{ port *os.File }

// report says what it finds until the machine is turned off.
func report() error {
	port, err := os.OpenFile("/dev/virtio-ports/"+reportPort, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	r := &reporter{port}
	log, err := os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	r.say(foundLog, log, err)
	names, err := filepath.Glob("/run/credentials/@*/*")
	r.say(foundHostInput, []byte(strings.Join(names, "\n")), err)
	r.await("/v2/health/live", foundLive)
	out, err := exec.Command("/usr/bin/anchorhold-agent", "check", agentFile).CombinedOutput()
	r.say(foundKey, out, err)
	r.await("/v2/models/digits/ready", "")
	r.ask(foundAnswer, http.MethodPost, "/v2/models/digits/infer", question())
	r.ask(foundAttestation, http.MethodGet, "/v1/attestation?nonce="+strings.Repeat("5a", 32), nil)
	tcp, err := os.ReadFile("/proc/net/tcp")
	tcp6, err6 := os.ReadFile("/proc/net/tcp6")
	r.say(foundListeners, append(tcp, tcp6...), errors.Join(err, err6))
	out, err = exec.Command("systemd-analyze", "blame", "--no-pager").CombinedOutput()
	r.say(foundBlame, out, err)
	select {} // the host turns the machine off
}

// say writes a line. There is nobody to tell if it fails: the host misses it.
func (r *reporter) say(what string, data []byte, err error) {
	f := finding{What: what, Uptime: uptime(), Data: data}
	if err != nil {
		f.Error = err.Error()
	}
	line, err := json.Marshal(f)
	if err == nil {
		_, _ = r.port.Write(append(line, '\n'))
	}
}

func uptime() (seconds float64) {
	text, err := os.ReadFile("/proc/uptime")
	if err == nil {
		_, _ = fmt.Sscan(string(text), &seconds) // zero says that it is unknown
	}
	return seconds
}

// await asks until the answer is good, and says whenever the agent's status changes.
func (r *reporter) await(path, what string) {
	var before []byte
	for ; ; time.Sleep(250 * time.Millisecond) {
		if status, body, err := ask(http.MethodGet, path, nil); err == nil && status == http.StatusOK {
			if what != "" {
				r.say(what, body, nil)
			}
			return
		}
		status, body, err := ask(http.MethodGet, "/v1/status", nil)
		if now := append(fmt.Appendf(nil, "%d ", status), body...); err == nil && !bytes.Equal(now, before) {
			r.say(foundStatus, body, nil)
			before = now
		}
	}
}

func (r *reporter) ask(what, method, path string, body []byte) {
	status, answer, err := ask(method, path, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d", status)
	}
	r.say(what, answer, err)
}

// ask sends a request to the agent.
func ask(method, path string, body []byte) (status int, answer []byte, err error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", apiSocket)
	}}}
	req, err := http.NewRequest(method, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// question is one for the classifier of digits.
func question() []byte {
	row := make([]float64, 64)
	for i := range row {
		row[i] = float64(i % 16)
	}
	body, err := json.Marshal(map[string]any{"inputs": []any{map[string]any{"name": "input", "datatype": "FP64", "shape": []int{1, len(row)}, "data": row}}})
	if err != nil {
		return nil // numbers alone: it does not fail
	}
	return body
}
