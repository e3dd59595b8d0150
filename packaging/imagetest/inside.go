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
	"path"
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
	foundHostInput   = "host input"  // which of the host's credentials systemd took
	foundUnlocking   = "unlocking"   // the first answer of the agent that has the volume's key
	foundStatus      = "status"      // of that agent, and then of the other, whenever it was refused for another reason
	foundVolumes     = "volumes"     // what is mounted, once the volume of the state is; an error if it was refused
	foundForged      = "forged"      // after that: how the unit of the forged volume ended
	foundLive        = "live"        // the agent's first answer
	foundKept        = "kept"        // the proof of an answer of an earlier boot, if the agent's state has one
	foundAnswer      = "answer"      // the classifier's
	foundAttestation = "attestation" // evidence that the agent made for this program
	foundListeners   = "listeners"   // TCP, as the kernel has them
	foundProof       = "proof"       // of the answer, once there is one
)

const (
	reportPort   = "anchorhold.test"
	apiSocket    = "/run/anchorhold/agent.sock"
	unlockSocket = "/run/anchorhold-agent-unlock/agent.sock"
	// hostCredential is one that the test offers as a host would.
	hostCredential = "anchorhold.test"
)

// reporter is the guest's half.
type reporter struct {
	port *os.File
	said string // why an agent was refused last
}

// report says what it finds until the machine is turned off.
func report() error {
	port, err := os.OpenFile("/dev/virtio-ports/"+reportPort, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	r := &reporter{port: port}
	log, err := os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	r.say(foundLog, log, err)
	names, err := filepath.Glob("/run/credentials/@*/*")
	r.say(foundHostInput, []byte(strings.Join(names, "\n")), err)
	r.await(unlockSocket, "/v1/status", foundUnlocking) // it has no model, whose API has a path for health
	if older, mounted := r.awaitVolume(); mounted {
		r.use(older)
	}
	select {} // the host turns the machine off
}

// use is what the guest is for: the agent's files are on the volume, some of them older than this boot.
func (r *reporter) use(older []string) {
	r.await(apiSocket, "/v2/health/live", foundLive)
	r.await(apiSocket, "/v2/models/digits/ready", "")
	for _, name := range older {
		if dir, receipt := path.Split(name); path.Base(dir) == "proof" {
			r.ask(foundKept, http.MethodGet, proofPath+receipt, nil)
		}
	}
	answer := r.ask(foundAnswer, http.MethodPost, "/v2/models/digits/infer", question())
	r.ask(foundAttestation, http.MethodGet, "/v1/attestation?nonce="+strings.Repeat("5a", 32), nil)
	tcp, err := os.ReadFile("/proc/net/tcp")
	tcp6, err6 := os.ReadFile("/proc/net/tcp6")
	r.say(foundListeners, append(tcp, tcp6...), errors.Join(err, err6))
	receipt, err := receiptOf(answer)
	if err != nil {
		r.say(foundProof, nil, err)
		return
	}
	for ; ; time.Sleep(time.Second) { // the processor has a proof to make
		if status, body, err := ask(apiSocket, http.MethodGet, proofPath+receipt, nil); err == nil && status == http.StatusOK {
			r.say(foundProof, body, nil)
			return
		}
	}
}

const proofPath = "/v1/proofs/"

// receiptOf is the one receipt of an answer.
func receiptOf(answer []byte) (string, error) {
	var receipts struct {
		Parameters struct {
			Receipts []string `json:"receipts"`
		} `json:"parameters"`
	}
	if err := json.Unmarshal(answer, &receipts); err != nil || len(receipts.Parameters.Receipts) != 1 {
		return "", fmt.Errorf("the answer has no receipt: %s (%w)", answer, err)
	}
	return receipts.Parameters.Receipts[0], nil
}

// pause is between two questions: each takes an emulated processor some of its time.
const pause = 500 * time.Millisecond

// await asks until the answer is good, and says meanwhile why the agent is refused.
func (r *reporter) await(socket, path, what string) {
	for ; ; time.Sleep(pause) {
		if status, body, err := ask(socket, http.MethodGet, path, nil); err == nil && status == http.StatusOK {
			if what != "" {
				r.say(what, body, nil)
			}
			return
		}
		r.sayStatus(socket)
	}
}

// sayStatus says what an agent's status is, if it was refused and for another reason than before.
func (r *reporter) sayStatus(socket string) {
	_, body, err := ask(socket, http.MethodGet, "/v1/status", nil)
	if err != nil {
		return // it has not started, or has ended
	}
	f := finding{What: foundStatus, Data: body}
	if why := refusedFor(f); why != r.said {
		r.say(foundStatus, body, nil)
		r.said = why
	}
}

func (r *reporter) ask(what, method, path string, body []byte) []byte {
	status, answer, err := ask(apiSocket, method, path, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d", status)
	}
	r.say(what, answer, err)
	return answer
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

// ask sends a request to an agent.
func ask(socket, method, path string, body []byte) (status int, answer []byte, err error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
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
