package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A secret that a client has is on the guest's disk in two halves, which say nothing alone. Only the short-lived
// processes below put them together, in their own memory: what the audit finds elsewhere got there by way of the agent.

const halvesDir = "/root/halves"

// halve writes a secret's halves below a directory.
func halve(dir, name string, secret, random []byte) error {
	other := make([]byte, len(secret))
	for i := range other {
		other[i] = secret[i] ^ random[i]
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, name+".a"), random[:len(secret)], 0o600), os.WriteFile(filepath.Join(dir, name+".b"), other, 0o600))
}

func join(dir, name string) ([]byte, error) {
	a, err := os.ReadFile(filepath.Join(dir, name+".a"))
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, name+".b"))
	if err != nil {
		return nil, err
	}
	if len(a) != len(b) {
		return nil, fmt.Errorf("the halves of %s have %d and %d bytes", name, len(a), len(b))
	}
	for i := range a {
		a[i] ^= b[i]
	}
	return a, nil
}

// takePart runs this program as a part of the audit: in the guest, beside it, or as QEMU's relay on the host.
func takePart(part string, words []string) error {
	argument := ""
	if len(words) > 0 {
		argument = words[0]
	}
	switch part {
	case "audited":
		return takeOrders(argument)
	case "relay":
		return relay(argument)
	case "ask":
		return askOnce(argument)
	case "client":
		return askForever(argument)
	case "contribute":
		return contribute(argument)
	case "plant":
		return plant()
	case "store":
		return store()
	case "hold":
		fmt.Println("held")
		time.Sleep(time.Hour)
		return nil
	}
	return fmt.Errorf("there is no part %q in an audit", part)
}

const auditedModel = "canary"

func chatRequest(seed string, stream bool) ([]byte, error) {
	prompt, err := join(halvesDir, "prompt")
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"model": auditedModel, "stream": stream, "max_tokens": 700, "temperature": 1, "seed": json.Number(seed),
		"messages": []map[string]string{{"role": "user", "content": string(prompt)}}})
}

// askOnce asks for one answer and prints it under a pad that the host has, too.
func askOnce(seed string) error {
	body, err := chatRequest(seed, false)
	if err != nil {
		return err
	}
	r, err := ask(http.MethodPost, "/v1/chat/completions", body, 2*time.Minute)
	if err != nil || r.Status != http.StatusOK {
		return fmt.Errorf("the model did not answer: %d %s (%w)", r.Status, r.Body, err)
	}
	var answer struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(r.Body, &answer); err != nil || len(answer.Choices) != 1 {
		return fmt.Errorf("the answer has no choice (%w)", err)
	}
	text := []byte(answer.Choices[0].Message.Content)
	pad, err := os.ReadFile(filepath.Join(halvesDir, "pad"))
	if err != nil {
		return err
	}
	text = text[:min(len(text), len(pad))]
	for i := range text {
		text[i] ^= pad[i]
	}
	fmt.Println(hex.EncodeToString(text))
	return nil
}

// askForever asks again and again for streamed answers, and says when the first one has begun. It ends when it finds no
// agent.
func askForever(seed string) error {
	body, err := chatRequest(seed, true)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dialAgent}}
	for said := false; ; {
		resp, err := client.Post("http://agent/v1/chat/completions", "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if !said {
				fmt.Println(resp.Status)
				said = true
			}
		}
		// An agent ends a stream whose client gets no processor for ten seconds: the search takes it.
		_ = resp.Body.Close()
	}
}

// contribute sends the vector and waits for the end of its job.
func contribute(round string) error {
	vector, err := join(halvesDir, "gradient")
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: patient(2 * time.Minute), Transport: &http.Transport{DialContext: dialAgent}}
	resp, err := client.Post("http://agent/v1/fed/rounds/"+round+"/contributions?weight=1", "application/octet-stream", bytes.NewReader(vector))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var job struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&job); err != nil || job.ID == "" {
		return fmt.Errorf("the agent took no vector: %s (%w)", resp.Status, err)
	}
	if err := await(4*time.Minute, "the job of the contribution", func() (bool, error) {
		r, err := ask(http.MethodGet, "/v1/jobs/"+job.ID, nil, 20*time.Second)
		var state struct {
			State string `json:"state"`
		}
		if err == nil {
			err = json.Unmarshal(r.Body, &state)
		}
		return err == nil && state.State == "done", fmt.Errorf("%d %s (%w)", r.Status, r.Body, err)
	}); err != nil {
		return err
	}
	fmt.Println(job.ID)
	return nil
}

// plant puts each control where the audit must find it, and stays.
func plant() error {
	control := func(place string) string {
		text, err := join(halvesDir, "control-"+place)
		if err != nil {
			return err.Error() // it is then not found, and the audit says so
		}
		return string(text)
	}
	swap, err := os.OpenFile(swapFile, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = swap.WriteAt([]byte(control("swap")), 32<<20)
	errs := []error{err, swap.Close()}
	for path, place := range map[string]string{coresDir + "/control": "cores", "/var/lib/control": "files", "/dev/shm/control": "shm"} {
		errs = append(errs, writeFile(path, control(place)))
	}
	key, err := unix.AddKey("user", "control", []byte(control("keyring")), unix.KEY_SPEC_SESSION_KEYRING)
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, unix.KeyctlSetperm(key, 0x3f3f0000)) // its owner may read it, too
	}
	logger := exec.Command("systemd-cat", "-t", "control")
	logger.Stdin = strings.NewReader(control("journal") + "\n")
	errs = append(errs, logger.Run(), os.WriteFile("/dev/ttyS0", []byte(control("console")+"\n"), 0))
	packet, err := net.Dial("udp", "10.0.2.2:9")
	if err == nil {
		_, err = packet.Write([]byte(control("network")))
		err = errors.Join(err, packet.Close())
	}
	errs = append(errs, err)
	started := exec.Command("/proc/self/exe", "-part", "hold")
	started.Env = []string{"CONTROL=" + control("start")}
	errs = append(errs, started.Start())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	held := control("memory")
	fmt.Println("planted")
	time.Sleep(time.Hour)
	runtime.KeepAlive(held)
	return nil
}
