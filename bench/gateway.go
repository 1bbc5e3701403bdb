// A minimal LLM gateway in Go, to compare with: the same hot path on net/http and encoding/json.
//
//	gateway PORT UPSTREAM_PORT
//
// For each call: key lookup among 10,000, a quota counter, the whole body parsed, the best of three
// upstreams by load x latency / weight, the model rewritten and the body built again, a kept-alive
// call, the answer read for its usage and given on (streams event by event), a record of the usage.
// No health, retries, limits of size or time, journal or metrics: less than any product does.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type owner struct {
	name string
	left atomic.Int64
}

type upstream struct {
	url      string
	weight   float64
	inFlight atomic.Int64
	latency  atomic.Int64 // moving mean, microseconds
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
}

type record struct {
	owner, model string
	usage        usage
	took         time.Duration
}

var (
	owners    = map[string]*owner{}
	upstreams []*upstream
	client    = &http.Client{Transport: &http.Transport{
		MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, DisableCompression: true,
	}}
	recordsLock sync.Mutex
	records     []record
)

func choose() *upstream {
	var best *upstream
	least := 0.0
	for _, each := range upstreams {
		cost := float64(each.inFlight.Load()+1) * float64(each.latency.Load()+1) / each.weight
		if best == nil || cost < least {
			best, least = each, cost
		}
	}
	return best
}

func keep(found record) {
	recordsLock.Lock()
	if len(records) == 10_000 {
		records = records[:0]
	}
	records = append(records, found)
	recordsLock.Unlock()
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"message":%q}}`, message)
}

func call(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	who, known := owners[strings.TrimPrefix(r.Header.Get("authorization"), "Bearer ")]
	if !known {
		fail(w, 401, "unknown key")
		return
	}
	if who.left.Add(-1) < 0 {
		fail(w, 429, "out of quota")
		return
	}
	var asked map[string]any
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		fail(w, 400, err.Error())
		return
	}
	model, _ := asked["model"].(string)
	asked["model"] = strings.TrimPrefix(model, "public-")
	body, _ := json.Marshal(asked)
	to := choose()
	to.inFlight.Add(1)
	defer to.inFlight.Add(-1)
	request, _ := http.NewRequestWithContext(r.Context(), "POST", to.url, bytes.NewReader(body))
	request.Header.Set("content-type", "application/json")
	reply, err := client.Do(request)
	if err != nil {
		fail(w, 502, err.Error())
		return
	}
	defer reply.Body.Close()
	w.Header().Set("content-type", reply.Header.Get("content-type"))
	var found struct {
		Usage usage `json:"usage"`
	}
	if strings.HasPrefix(reply.Header.Get("content-type"), "text/event-stream") {
		w.WriteHeader(reply.StatusCode)
		flusher := w.(http.Flusher)
		lines := bufio.NewReader(reply.Body)
		for {
			line, err := lines.ReadBytes('\n')
			w.Write(line)
			if len(line) == 1 {
				flusher.Flush()
			} else if bytes.Contains(line, []byte(`"usage":{`)) {
				json.Unmarshal(bytes.TrimPrefix(line, []byte("data: ")), &found)
			}
			if err != nil {
				break
			}
		}
	} else {
		whole, _ := io.ReadAll(reply.Body)
		json.Unmarshal(whole, &found)
		w.Header().Set("content-length", fmt.Sprint(len(whole)))
		w.WriteHeader(reply.StatusCode)
		w.Write(whole)
	}
	took := time.Since(began)
	to.latency.Store((to.latency.Load()*7 + took.Microseconds()) / 8)
	keep(record{who.name, model, found.Usage, took})
}

func main() {
	for n := 0; n < 10_000; n++ {
		each := &owner{name: fmt.Sprint("owner", n)}
		each.left.Store(1 << 60)
		owners[fmt.Sprint("sk-bench", n)] = each
	}
	owners["sk-bench"] = owners["sk-bench0"]
	for n := 0; n < 3; n++ {
		url := "http://127.0.0.1:" + os.Args[2] + "/v1/chat/completions"
		upstreams = append(upstreams, &upstream{url: url, weight: float64(n + 1)})
	}
	http.HandleFunc("/v1/chat/completions", call)
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) })
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
